"""What the training of a detector leaves behind: the model, its scores frame by frame and event by
event, and the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from sonoformer.evaluation import sections
from sonoformer.evaluation.events.calibration import calibrate
from sonoformer.evaluation.events.tuning import tune
from sonoformer.evaluation.metrics import Answers
from sonoformer.evaluation.predictions import save_predictions
from sonoformer.evaluation.report import Report, Section
from sonoformer.evaluation.scorecard import Scorecard, scorecard
from sonoformer.files import atomic
from sonoformer.run import Run
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.table import baseline_cards, baseline_rows, comparison
from sonoformer.tasks.detection.judging import judge
from sonoformer.tasks.detection.lesson import truth_of
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scoring import (
    Scored,
    frame_answers,
    frame_scores,
    tracks,
    true_events,
)
from sonoformer.tasks.outcome import add_to, environment_of, headline, model_card, write_scores
from sonoformer.tasks.turn import Trained
from sonoformer.tasks.turns import Turn
from sonoformer.training.devices import resolve_precision


def detector_outcome(
    run: Run,
    trained: Trained,
    clips: Clips,
    turn: Turn,
    config: FinetuneConfig,
    *,
    seed: int,
    device: torch.device,
    bar: bool | None = None,
) -> tuple[Path, Answers | None]:
    """Tune what turns scores into events, test, and write all that comes of it.

    Args:
        run: the folder.
        trained: the detector and its curves.
        clips: all recordings.
        turn: which of them were trained on, watched and kept for the test.
        config: the options.
        seed: of the baselines.
        device: where to compute.
        bar: show a bar while a baseline trains; on a terminal only by default.

    Returns:
        The model's folder, and the answers about the frames of the test recordings.
    """
    model = trained.model
    assert isinstance(model, Detector)

    def heard(part: Clips) -> Scored:
        return frame_scores(
            model,
            part,
            seconds=config.seconds,
            overlap=config.events.overlap,
            batch_size=2 * config.train.batch_size,
            device=device,
            precision=resolve_precision(config.train.precision, device),
            problem=run.problem,
        )

    validation, test = clips.take(turn.validation), clips.take(turn.test)
    if len(validation):
        _tune(run, model, validation, config, heard(validation))
    else:
        run.log(
            "no validation recordings, so that scores become events by default thresholds; to have "
            "them tuned give --validation 0.15"
        )
    answers, card, judged = None, None, list[Section]()
    if len(test):
        truth, scored = truth_of(test, model.classes, config), heard(test)
        answers = frame_answers(model, test, truth, scored)
        card = scorecard(answers, resamples=config.resamples)
        found, judged = judge(run, model, test, truth, scored, config)
        if found is not None and config.events.baselines:
            train, where = clips.take(turn.train), str(device)
            others = baseline_cards(
                model, train, validation, test, config, run, seed=seed, device=where, bar=bar
            )
            rows = baseline_rows(others)
            run.metrics({"baselines": rows})
            judged.insert(1, comparison(found, others))
            for name, row in rows.items():
                run.log(f"baseline {name}: event F1 {row['event_f1']:.3f}")
    figures = {} if card is None else {name: f.to_dict() for name, f in card.figures.items()}
    text = _card(model, card, len(turn.train))
    folder = model.cpu().save(run.folder / "model", text, **trained.facts, test=figures)
    tested = f"tested on {len(test)} others" if len(test) else "not tested"
    title = f"{len(model.classes)} classes, trained on {len(turn.train)} recordings, {tested}."
    report = Report(run.folder.resolve().name, title)
    if card is not None and answers is not None:
        write_scores(run, card)
        save_predictions(run.folder / "predictions.parquet", answers)
        add_to(report, *judged)
        lead = f"Every frame of {model.grid.step * 1000:.0f} ms counts as a clip."
        report.add(replace(sections.result(card, lead), title="Frames"))
    add_to(report, sections.training(trained.history))
    if card is not None:
        report.add(sections.classes(card))
    report.add(sections.settings(config, environment_of(run), run.problems))
    report.write(run.folder / "report.html")
    if answers is not None:
        run.log(f"test, by frames: {headline(answers)}; report: {run.folder / 'report.html'}")
    return folder, answers


def _tune(
    run: Run, model: Detector, validation: Clips, config: FinetuneConfig, scored: Scored
) -> None:
    """Choose how scores become events, by the validation recordings."""
    truth = truth_of(validation, model.classes, config)
    table, reviewed = true_events(validation, truth)
    frames = tracks(model, validation, truth, scored)
    notes: tuple[str, ...] = ()
    if config.events.calibration != "none":
        # The thresholds are chosen for calibrated scores, as `detect` will give them.
        model.calibration, notes = calibrate(frames, model.classes, config.events.calibration)
        frames = [
            replace(one, scores=model.calibration.apply(one.scores, model.classes))
            for one in frames
        ]
    tuned = tune(frames, table, model.classes, reviewed=reviewed)
    model.post = tuned.config
    model.thresholds = tuple(tuned.config.of(name).high for name in model.classes)
    with atomic(run.folder / "tuning.parquet") as temporary:
        tuned.candidates.write_parquet(temporary)
    best = tuned.candidates.filter("chosen")
    for label, score, high, low in best.select("label", "score", "high", "low").iter_rows():
        text = f"tuned {label}: from {high:.2g} on, until {low:.2g}; event F1 {score:.3f}"
        run.log(f"{text} on validation recordings")
    for note in (*notes, *tuned.notes):
        run.log(note)
    scores = dict(best.select("label", "score").iter_rows())
    run.metrics({"validation": {"event_f1": scores}})


def _card(model: Detector, card: Scorecard | None, trained_on: int) -> str:
    return model_card(
        "Detector",
        model.classes,
        f"Trained on {trained_on} recordings; {len(model.classes)} classes, one decision each "
        f"{model.grid.step * 1000:.0f} ms.",
        "Scores are probabilities on recordings like those that they were calibrated on; on others "
        "they may not be.",
        "" if card is None else f"On {card.clips} frames of test recordings:",
        card,
    )
