"""Found events of the test recordings against the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.strong import Truth
from sonoformer.evaluation.events import sections
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.card import EVENT_TITLES, EventScorecard, event_scorecard
from sonoformer.evaluation.events.frames import FrameScores
from sonoformer.evaluation.events.judged import Judged
from sonoformer.evaluation.events.mistakes import mistakes
from sonoformer.evaluation.events.post import PostConfig
from sonoformer.evaluation.events.stream import events_of_frames
from sonoformer.evaluation.report import Section
from sonoformer.files import atomic
from sonoformer.run import Run
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scoring import Scored, recording_names, tracks, true_events
from sonoformer.tasks.outcome import samples_of
from sonoformer.tasks.scoring import group_names

_HEADLINE = ("event_f1", "intersection_f1", "onset_error", "offset_error")


def judge(
    run: Run, model: Detector, test: Clips, truth: Truth, scored: Scored, config: FinetuneConfig
) -> tuple[EventScorecard | None, list[Section]]:
    """Score the events that the model finds in the test recordings.

    Leaves `events.parquet` (what was found), `mistakes.csv`, and `test_events` in `metrics.json`.

    Args:
        run: the folder.
        model: the detector, with calibration and post-processing.
        test: the recordings.
        truth: what is in them.
        scored: the frame scores.
        config: the options.

    Returns:
        Figures, and sections for the report; none where no true event is in the recordings.
    """
    answers = event_answers(model.classes, test, truth, scored, model.post)
    frames = tracks(model, test, truth, scored)
    rows = {name: row for row, name in enumerate(recording_names(test))}
    card, found = judge_events(run, answers, test, rows, config, frames)
    tuned = sections.thresholds(Judged(answers))
    if found and tuned is not None:
        found.insert(1, tuned)
    return card, found


def judge_events(
    run: Run,
    answers: EventAnswers,
    clips: Clips,
    rows: Mapping[str, int],
    config: FinetuneConfig,
    frames: Sequence[FrameScores] = (),
    folds: Mapping[str, str] | None = None,
) -> tuple[EventScorecard | None, list[Section]]:
    """Write what was found and what was wrong; figures, and sections for the report.

    Args:
        run: the folder.
        answers: true and found events.
        clips: the recordings.
        rows: recording -> its row in `clips`.
        config: the options.
        frames: frame scores, where they are to be judged as well.
        folds: recording -> the training that it tested.
    """
    with atomic(run.folder / "events.parquet") as temporary:
        answers.found.write_parquet(temporary)
    if not len(answers.true.item):
        run.log("no true event in the test recordings: events are not scored")
        return None, []
    card = event_scorecard(answers, frames=frames, folds=folds, resamples=config.resamples)
    run.metrics({"test_events": card.to_dict()})
    run.log(f"test, by events: {_told(card)}")
    wrong = mistakes(answers)
    with atomic(run.folder / "mistakes.csv") as temporary:
        wrong.write_csv(temporary, float_precision=4)

    def cut(name: str, start: float, end: float) -> tuple[NDArray[np.float32], int]:
        rate = clips.source.sample_rate
        wave = clips.source.read(rows[name], round(start * rate), round((end - start) * rate))
        return samples_of(wave), rate

    errors = sections.errors(answers, wrong, cut)
    return card, [sections.result(card), sections.tables(card), *([errors] if errors else [])]


def event_answers(
    classes: Sequence[str], test: Clips, truth: Truth, scored: Scored, post: PostConfig
) -> EventAnswers:
    """The true events of recordings, and those in frame scores of a detector or a baseline.

    Args:
        classes: names.
        test, truth: the recordings and what is in them.
        scored: frame scores.
        post: how they become events.
    """
    names = recording_names(test)
    seconds = dict(zip(names, truth.lengths.tolist(), strict=True))
    found = pl.concat(
        events_of_frames(
            scores,
            scored.step,
            post,
            classes,
            path=name,
            start=scored.start,
            end=seconds[name],
        )
        for name, scores in zip(names, scored.scores, strict=True)
    )
    return answers_to(test, truth, found, classes)


def answers_to(
    test: Clips, truth: Truth, found: pl.DataFrame, classes: Sequence[str]
) -> EventAnswers:
    """The true events of recordings, and a table of found ones."""
    names = recording_names(test)
    seconds = dict(zip(names, truth.lengths.tolist(), strict=True))
    table, reviewed = true_events(test, truth)
    groups = group_names(test.manifest)
    grouped = None if groups is None else dict(zip(names, groups, strict=True))
    return EventAnswers(table, found, seconds, classes, grouped, reviewed)


def _told(card: EventScorecard) -> str:
    shown = [name for name in _HEADLINE if name in card.figures]
    return ", ".join(f"{EVENT_TITLES[name]} {card.figures[name].value:.3f}" for name in shown)
