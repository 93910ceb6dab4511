"""Post-processing chosen on validation recordings, class by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers, Marks
from sonoformer.evaluation.events.collars import paired
from sonoformer.evaluation.events.frames import FrameScores
from sonoformer.evaluation.events.intersection import Criteria, rightly_found, wholly_found
from sonoformer.evaluation.events.post import ClassPost, PostConfig
from sonoformer.evaluation.events.spans import (
    NO_SPANS,
    Scores,
    Spans,
    closed_gaps,
    crossings,
    fitting,
    medians,
)

Goal = Literal["event_f1", "intersection_f1"]


@dataclass(frozen=True)
class Grid:
    """Values to try; times in seconds. All combinations are tried."""

    median: tuple[float, ...] = (0.0, 0.5, 1.0)
    """lengths of the median filter; those of the same number of frames count once"""
    high: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """thresholds at which events begin"""
    low: tuple[float, ...] = (0.5, 0.75, 1.0)
    """thresholds at which they end, as shares of the former"""
    gap: tuple[float, ...] = (0.0, 0.2, 0.5, 1.0)
    """gaps to close"""
    shortest: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5)
    """least durations"""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name):
                raise UserError(f"{name}: give at least one value to try")
        if not all(0 < share <= 1 for share in self.low):
            raise UserError(f"low: shares of high must be above 0 and at most 1; got {self.low}.")


@dataclass(frozen=True)
class Rule:
    """By what the candidates are compared."""

    goal: Goal = "event_f1"
    """event_f1: F1 with collars on both ends; intersection_f1: F1 by what events share"""
    collar: float = 0.2
    """seconds, for `event_f1`"""
    share: float = 0.5
    """of an event's length, for its offset, for `event_f1`"""
    criteria: Criteria = Criteria()
    """for `intersection_f1`"""

    def f1(self, true: Marks, said: Marks) -> float:
        """Of one class that has true events."""
        if self.goal == "event_f1":
            hits = int(paired(true, said, self.collar, self.share).sum())
            return 2 * hits / (len(true.item) + len(said.item))
        right = rightly_found(true, said, self.criteria.dtc - 1e-9)
        hits = int(wholly_found(true, said.take(right), self.criteria.gtc - 1e-9).sum())
        # Hits and misses are true events, false alarms found ones.
        return 2 * hits / (hits + len(true.item) + int((~right).sum()))


class Tuned(NamedTuple):
    """What tuning gives.

    Attributes:
        config: for the model.
        candidates: a row for each class and candidate: `label, median, high, low, gap, shortest,
            score, chosen`.
        notes: classes that could not be tuned.
    """

    config: PostConfig
    candidates: pl.DataFrame
    notes: tuple[str, ...]


def tune(
    frames: Sequence[FrameScores],
    truth: pl.DataFrame,
    classes: Sequence[str],
    *,
    reviewed: pl.DataFrame | None = None,
    rule: Rule = Rule(),
    grid: Grid = Grid(),
    base: PostConfig = PostConfig(),
) -> Tuned:
    """Choose each class's post-processing by the F1 of its events on validation recordings.

    Of candidates that are equally good the one that does least is taken, and of the thresholds
    among these the middle one, so that the choice lies inside what works and not at its edge.

    Args:
        frames: scores of each validation recording; test recordings have no business here.
        truth: the events table of these recordings.
        classes: names of the columns of the scores.
        reviewed: stretches in which every event was marked; all by default.
        rule: by what to choose.
        grid: what to try.
        base: everything that the grid does not vary; a class without a true event keeps it.

    Raises:
        UserError: there are no recordings, or recordings of different frame steps.
    """
    steps = {one.step for one in frames}
    if len(steps) != 1:
        raise UserError(f"tuning needs recordings of one frame step; got {sorted(steps)}")
    lengths = {one.path: one.seconds for one in frames}
    answers = EventAnswers(truth, truth.clear(), lengths, classes, reviewed=reviewed)
    config, rows, notes = base, [], []
    for label, name in enumerate(classes):
        true = answers.true.take(answers.true.label == label)
        if not len(true.item):
            notes.append(f"{name}: no validation recording holds it; it keeps the defaults.")
            continue
        tracks = [one.scores[:, label] for one in frames]
        found = list(_candidates(tracks, frames, answers, true, label, base.of(name), grid, rule))
        most = max(f1 for _, f1 in found)
        best = _middle([one for one in found if one[1] >= most - 1e-12])
        config = config.with_classes({name: best})
        rows += [_row(name, post, f1, post == best) for post, f1 in found]
    return Tuned(config, pl.DataFrame(rows, schema=_SCHEMA), tuple(notes))


_VARIED = ("median", "high", "low", "gap", "shortest")
_SCHEMA = {
    "label": pl.String(),
    **dict.fromkeys((*_VARIED, "score"), pl.Float64()),
    "chosen": pl.Boolean(),
}


def _candidates(
    tracks: Sequence[Scores],
    frames: Sequence[FrameScores],
    answers: EventAnswers,
    true: Marks,
    label: int,
    base: ClassPost,
    grid: Grid,
    rule: Rule,
) -> Iterator[tuple[ClassPost, float]]:
    """Each candidate of a class with its F1."""
    step = frames[0].step
    reaches = {replace(base, median=length).reach(step): length for length in grid.median[::-1]}
    # Recordings one after the other, too far apart for any gap to be closed.
    apart = max(one.seconds for one in frames) + max(grid.gap) + 1
    for reach, median in sorted(reaches.items()):
        smooth = [_smoothed(track, reach) for track in tracks]
        for high, share in product(grid.high, grid.low):
            low = None if share == 1 else high * share
            post = replace(base, median=median, high=high, low=low)
            spans = [
                _along(_spans(track, post, one), number * apart)
                for number, (track, one) in enumerate(zip(smooth, frames, strict=True))
            ]
            raw = Spans.joined(spans)
            for gap in grid.gap:
                closed = closed_gaps(raw, gap)
                for shortest in grid.shortest:
                    kept = closed.take(fitting(closed, shortest, base.longest))
                    said = _marks(kept, apart, label, answers)
                    yield replace(post, gap=gap, shortest=shortest), rule.f1(true, said)


def _smoothed(track: Scores, reach: int) -> Scores:
    if not len(track):
        return track
    return medians(np.pad(track, reach, mode="edge"), reach)


def _spans(track: Scores, post: ClassPost, frames: FrameScores) -> Spans:
    """Events of a whole recording before gaps and durations."""
    if not len(track):
        return NO_SPANS
    spans, rest = crossings(track, post, frames.step, frames.start)
    if rest is not None:
        over = frames.start + len(track) * frames.step
        spans = Spans.joined([spans, rest._replace(end=np.array([over]))])
    spans = spans.take(spans.start < frames.seconds)
    return spans._replace(end=np.minimum(spans.end, frames.seconds))


def _along(spans: Spans, seconds: float) -> Spans:
    return spans._replace(start=spans.start + seconds, end=spans.end + seconds)


def _marks(spans: Spans, apart: float, label: int, answers: EventAnswers) -> Marks:
    item = (spans.start // apart).astype(np.int64)
    start, end = spans.start - item * apart, spans.end - item * apart
    marks = Marks(
        item,
        np.full(len(item), label),
        start,
        end,
        spans.peak.astype(np.float64),
        np.arange(len(item)),
    )
    return marks.take(_reviewed(marks, answers))


def _reviewed(marks: Marks, answers: EventAnswers) -> NDArray[np.bool_]:
    keep = np.ones(len(marks.item), bool)
    middle = (marks.start + marks.end) / 2
    for item in np.unique(marks.item) if answers.reviewed is not None else ():
        here = marks.item == item
        keep[here] = answers.known_at(int(item), middle[here])
    return keep


def _middle(best: Sequence[tuple[ClassPost, float]]) -> ClassPost:
    """Of equally good candidates one that does least, with the middle one of its thresholds."""
    posts = [post for post, _ in best]
    least = min((post.median, post.gap, post.shortest) for post in posts)
    posts = [post for post in posts if (post.median, post.gap, post.shortest) == least]
    posts = sorted(posts, key=lambda post: (post.high, post.closing))
    return posts[len(posts) // 2]


def _row(name: str, post: ClassPost, f1: float, chosen: bool) -> dict[str, object]:
    values = {key: getattr(post, key) for key in _VARIED} | {"low": post.closing}
    return {"label": name, **values, "score": f1, "chosen": chosen}
