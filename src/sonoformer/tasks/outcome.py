"""What a training leaves behind: the model, its scores, its answers, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.sources import FULL_SCALE
from sonoformer.evaluation import sections
from sonoformer.evaluation.metrics import Answers
from sonoformer.evaluation.plots import confusion
from sonoformer.evaluation.predictions import save_predictions
from sonoformer.evaluation.report import Report, Section
from sonoformer.evaluation.scorecard import TITLES, Scorecard, scorecard
from sonoformer.evaluation.statistics import Interval
from sonoformer.files import atomic, read_json
from sonoformer.run import Run
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.turn import Trained

# Longest part of a clip that is read for the report.
_SHOWN_SECONDS = 60.0


def write_outcome(
    run: Run,
    trained: Trained,
    answers: Answers | None,
    test: Clips,
    config: FinetuneConfig,
    *,
    trained_on: int,
) -> Path:
    """Write the model, and with answers the scores, predictions and confusion matrix; the report.

    Args:
        run: the folder.
        trained: the model and its curves.
        answers: about the test clips; None if nothing was tested.
        test: the test clips.
        config: the options, for the report.
        trained_on: number of training clips.

    Returns:
        The model's folder.
    """
    card = None if answers is None else scorecard(answers, resamples=config.resamples)
    classes = trained.model.classes
    figures = {} if card is None else {name: f.to_dict() for name, f in card.figures.items()}
    model = trained.model.cpu().save(
        run.folder / "model", _card(trained, card, trained_on), **trained.facts, test=figures
    )
    report = Report(run.folder.resolve().name, _subtitle(trained_on, len(test), classes))
    if card is not None and answers is not None:
        write_scores(run, card)
        save_predictions(run.folder / "predictions.parquet", answers)
        report.add(sections.result(card))
    if (curves := sections.training(trained.history)) is not None:
        report.add(curves)
    if (run.folder / "budget.json").is_file():
        report.add(sections.choice(read_json(run.folder / "budget.json")))
    if card is not None and answers is not None:
        add_to(report, sections.classes(card), sections.errors({"": answers}, reader(test)))
    report.add(sections.settings(config, environment_of(run), run.problems))
    report.write(run.folder / "report.html")
    if answers is not None:
        run.log(f"test: {headline(answers)}; report: {run.folder / 'report.html'}")
    return model


def write_summary(
    run: Run,
    card: Scorecard,
    seeds: Sequence[Answers],
    over: Mapping[str, Interval],
    parts: Mapping[str, Answers],
    test: Clips | None,
    folds: Sequence[str],
    config: FinetuneConfig,
    judged: Sequence[Section] = (),
) -> None:
    """Write what several trainings say together.

    Args:
        run: the folder.
        card: scores of all tested clips, with intervals over clips and seeds.
        seeds: the answers, one a seed.
        over: scores with intervals over folds and seeds.
        parts: the answers of each training.
        test: the tested clips, in the order of the answers; None if no error is to be heard.
        folds: fold of each of them, empty for a single split.
        config: the options, for the report.
        judged: what is said of events, where the answers are about frames.
    """
    write_scores(run, card)
    cards = {name: scorecard(answers, resamples=100) for name, answers in parts.items()}
    run.metrics(
        {
            "trainings": len(parts),
            "over_trainings": {name: interval.to_dict() for name, interval in over.items()},
            "each": {
                name: {score: figure.value for score, figure in each.figures.items()}
                for name, each in cards.items()
            },
        }
    )
    extra = {"fold": list(folds)} if any(folds) else {}
    for number, answers in enumerate(seeds):
        suffix = f"-{number}" if len(seeds) > 1 else ""
        save_predictions(run.folder / f"predictions{suffix}.parquet", answers, extra)
    title = f"{len(parts)} trainings, {card.clips} clips tested, {len(card.classes)} classes"
    report = Report(run.folder.resolve().name, title)
    add_to(
        report,
        *judged,
        replace(sections.result(card), title="Frames") if judged else sections.result(card),
        sections.trainings(cards, over),
        sections.classes(card),
        None if test is None else sections.errors({"": seeds[0]}, reader(test)),
        sections.settings(config, environment_of(run), run.problems),
    )
    report.write(run.folder / "report.html")
    name, interval = next(iter(over.items()), (None, None))
    if name is not None:
        run.log(f"{TITLES[name]} over {interval.over}: {interval}")  # type: ignore[union-attr]
    run.log(f"report: {run.folder / 'report.html'}")


def headline(answers: Answers) -> str:
    """The first two scores in words."""
    figures = scorecard(answers, resamples=100).figures
    shown = [f"{TITLES[name]} {figure.value:.3f}" for name, figure in figures.items()]
    return ", ".join(shown[:2])


def reader(clips: Clips) -> sections.ReadClip:
    """Row -> the clip's waveform `(samples,)` in [-1, 1] and its sample rate."""

    def read(row: int) -> tuple[NDArray[np.float32], int]:
        rate = clips.source.sample_rate
        count = min(int(clips.source.lengths[row]), int(_SHOWN_SECONDS * rate))
        return samples_of(clips.source.read(row, 0, count)), rate

    return read


def samples_of(wave: NDArray[Any]) -> NDArray[np.float32]:
    """What a source gives -> float32 in [-1, 1]."""
    if wave.dtype == np.int16:
        wave = wave.astype(np.float32) / np.float32(FULL_SCALE)
    return np.asarray(wave, np.float32)


def write_scores(run: Run, card: Scorecard) -> None:
    run.metrics({"test": card.to_dict()})
    for note in card.notes:
        run.log(note, show=False)
    if card.confusion is not None and len(card.classes) <= 100:
        with atomic(run.folder / "confusion.png") as temporary:
            temporary.write_bytes(confusion(card.confusion, card.classes).png())


def add_to(report: Report, *parts: Section | None) -> None:
    for part in parts:
        if part is not None:
            report.add(part)


def model_card(
    kind: str, classes: Sequence[str], about: str, caution: str, tested: str, card: Scorecard | None
) -> str:
    """README of a trained model.

    Args:
        kind: its title.
        classes: what it tells apart.
        about: what it was trained on.
        caution: what its scores are not.
        tested: on what the scores of `card` were measured.
        card: the scores; None if it was not tested.
    """
    lines = [f"# {kind}", "", about, "", f"Classes: {', '.join(classes)}.", "", caution]
    if card is not None:
        lines += ["", tested, ""]
        lines += [f"- {TITLES[name]}: {figure}" for name, figure in card.figures.items()]
        lines += ["", *card.notes]
    return "\n".join(lines).rstrip() + "\n"


def _card(trained: Trained, card: Scorecard | None, trained_on: int) -> str:
    model = trained.model
    each = "exactly one class a clip" if model.single else "any number of classes a clip"
    return model_card(
        "Classifier",
        model.classes,
        f"Trained on {trained_on} labelled clips; {len(model.classes)} classes, {each}.",
        "Scores are not probabilities unless they were calibrated on clips like yours.",
        "" if card is None else f"On {card.clips} test clips, with intervals over {_over(card)}:",
        card,
    )


def _over(card: Scorecard) -> str:
    return next((figure.over for figure in card.figures.values()), "clips")


def _subtitle(trained_on: int, tested_on: int, classes: Sequence[str]) -> str:
    tested = f"tested on {tested_on} others" if tested_on else "not tested"
    return f"{len(classes)} classes, trained on {trained_on} clips, {tested}."


def environment_of(run: Run) -> dict[str, Any]:
    path = run.folder / "environment.json"
    return dict(read_json(path)) if path.is_file() else {}
