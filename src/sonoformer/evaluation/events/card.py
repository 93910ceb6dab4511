"""Everything that is reported about a detector of events: figures with intervals, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.breakdown import class_rows, number, recording_rows
from sonoformer.evaluation.events.draws import drawn, interval
from sonoformer.evaluation.events.frames import FrameScores
from sonoformer.evaluation.events.judged import EventScoring, Judged, measures
from sonoformer.evaluation.metrics import Row
from sonoformer.evaluation.statistics import RESAMPLES, Interval, t_interval

EVENT_TITLES = {
    "event_f1": "Event F1",
    "event_f1_pooled": "Event F1, pooled",
    "intersection_f1": "Intersection F1",
    "segment_f1": "Segment F1",
    "segment_error_rate": "Segment error rate",
    "event_ap": "Event AP",
    "psds1": "PSDS 1",
    "psds2": "PSDS 2",
    "false_alarms_per_hour": "False alarms an hour",
    "onset_error": "Onset error, s",
    "onset_error_p90": "Onset error, 90 %, s",
    "offset_error": "Offset error, s",
    "offset_error_p90": "Offset error, 90 %, s",
    "frame_ap": "Frame AP",
    "frame_auc": "Frame AUC",
}
"""What each figure is called where people read it."""


@dataclass(frozen=True, eq=False)
class EventScorecard:
    """Figures of a detector on labelled recordings.

    Attributes:
        figures: name (`EVENT_TITLES`) -> value and interval over recordings or groups; means over
            classes with true events unless pooled.
        per_class: a row a class.
        per_recording: a row a recording.
        over_folds: mean and t interval over folds of those figures that every fold has.
        folds: a row a fold.
        classes: class names.
        recordings, hours, events, found: what was scored.
        notes: sentences that a reader must know.
    """

    figures: dict[str, Interval]
    per_class: list[Row]
    per_recording: list[Row]
    classes: tuple[str, ...]
    recordings: int
    hours: float
    events: int
    found: int
    notes: tuple[str, ...]
    over_folds: dict[str, Interval] = field(default_factory=dict)
    folds: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `metrics.json`."""
        return {
            "recordings": self.recordings,
            "hours": self.hours,
            "events": self.events,
            "found": self.found,
            "classes": list(self.classes),
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "per_class": self.per_class,
            "per_recording": self.per_recording,
            "over_folds": {name: figure.to_dict() for name, figure in self.over_folds.items()},
            "folds": self.folds,
            "notes": list(self.notes),
        }


def event_scorecard(
    answers: EventAnswers,
    *,
    frames: Sequence[FrameScores] = (),
    scoring: EventScoring = EventScoring(),
    folds: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> EventScorecard:
    """Score a detector.

    Args:
        answers: true and found events of the recordings.
        frames: their frame scores with truth (`frames.with_truth`), for framewise figures.
        scoring: the rules.
        folds: recording -> fold (by recording or individual); figures are then given fold by fold
            too, with mean and interval over folds.
        resamples: draws of recordings, or of `answers.groups`, behind the intervals.
        seed: of the draws.

    Raises:
        UserError: there is no true event, or frames are not those of the recordings.
    """
    if not len(answers.true.item):
        raise UserError(
            "no true event in the recordings; give annotations that hold some of the classes"
        )
    judged = Judged(answers, _sorted(frames, answers), scoring)
    weights = drawn(answers, resamples, seed)
    values = {name: float(measure(judged, None)[0]) for name, measure in measures(judged).items()}
    figures = {
        name: interval(values[name], measure(judged, weights), answers)
        for name, measure in measures(judged).items()
        if np.isfinite(values[name])
    }
    rows = _fold_rows(judged, folds) if folds else []
    return EventScorecard(
        figures=figures,
        per_class=class_rows(judged),
        per_recording=recording_rows(judged),
        classes=tuple(answers.classes),
        recordings=len(answers.paths),
        hours=float(answers.lengths.sum()) / 3600,
        events=len(answers.true.item),
        found=len(answers.said.item),
        notes=tuple(_notes(answers, scoring, values)),
        over_folds=_over_folds(rows),
        folds=rows,
    )


def _sorted(frames: Sequence[FrameScores], answers: EventAnswers) -> list[FrameScores]:
    if not frames:
        return []
    by_path = {one.path: one for one in frames}
    missing = [path for path in answers.paths if path not in by_path]
    if missing or len(by_path) != len(answers.paths):
        raise UserError(
            f"frame scores of {len(by_path)} recordings for {len(answers.paths)} evaluated ones; "
            "give those of the same recordings"
        )
    return [by_path[path] for path in answers.paths]


def _fold_rows(judged: Judged, folds: Mapping[str, str]) -> list[Row]:
    answers = judged.answers
    missing = [path for path in answers.paths if path not in folds]
    if missing:
        raise UserError(f"{missing[0]}: is in no fold; name one for every recording")
    rows: list[Row] = []
    for fold in dict.fromkeys(folds[path] for path in answers.paths):
        paths = [path for path in answers.paths if folds[path] == fold]
        part = answers.only(paths)
        frames = [one for one in judged.frames if one.path in set(paths)]
        own = Judged(part, frames, judged.scoring)
        values = {name: measure(own, None)[0] for name, measure in measures(own).items()}
        counts = {"recordings": len(paths), "events": len(part.true.item)}
        rows.append({"fold": fold, **counts, **{k: number(v) for k, v in values.items()}})
    return rows


def _over_folds(rows: Sequence[Row]) -> dict[str, Interval]:
    found = {}
    for name in EVENT_TITLES if rows else ():
        values = [row.get(name) for row in rows]
        numbers = [float(value) for value in values if value is not None]
        if len(numbers) == len(rows):
            found[name] = t_interval(numbers, "folds", bounds=(0.0, np.inf))
    return found


def _notes(answers: EventAnswers, scoring: EventScoring, values: Mapping[str, float]) -> list[str]:
    notes = list(answers.notes)
    absent = [n for n, c in zip(answers.classes, answers.counts.sum(0), strict=True) if not c]
    if absent:
        shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        notes.append(
            f"No recording holds {shown}: such classes are left out of the means. What was found "
            "of them counts in pooled figures only."
        )
    if not len(answers.said.item):
        notes.append("Nothing was found.")
    elif not answers.scored:
        notes.append(
            "The found events have no scores, so that there is no curve over thresholds: no PSDS, "
            "no average precision, no false alarms at a recall."
        )
    rate = values.get("false_alarms_per_hour")
    if rate is not None and not np.isfinite(rate):
        notes.append(
            f"No threshold finds {scoring.recall:.0%} of the events of every class, so that there "
            "are no false alarms an hour to be given for all; see the table of classes. A detector "
            "that keeps events of lower scores may reach it."
        )
    units = answers.units[1]
    if units < 2:
        what = "recording" if answers.groups is None else "group"
        notes.append(f"There is one {what} only, so that no interval can be given.")
    return notes
