"""Frame scores to events, for recordings of any length in constant memory.

`EventStream` takes the frames of a recording in pieces of any size and gives, to the bit, the
events that the whole would give. Three things make that so: times are computed from absolute frame
numbers; the mean of an event's scores is a sum of integers, which no order of adding changes; and
an event that is open, or could still grow into the next one, waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.events import EVENTS
from sonoformer.evaluation.events.post import ClassPost, PostConfig

Scores = NDArray[np.float32]
Times = NDArray[np.float64]

_UNIT = 1 << 32
"""Scores are added as whole multiples of 2**-32: exact for 2**31 frames in a row."""

_BLOCK = 1 << 21  # values sorted at a time by the median filter


class Spans(NamedTuple):
    """Events of one class, rising in time; all `(events,)`."""

    start: Times
    end: Times
    total: NDArray[np.int64]
    """sum of the frames' scores in units of 2**-32"""
    frames: NDArray[np.int64]
    peak: Scores

    def take(self, keep: Any) -> Spans:
        """Some of them."""
        return Spans(*(column[keep] for column in self))

    @classmethod
    def joined(cls, parts: Sequence[Spans]) -> Spans:
        """One after the other."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def score(self, kind: str) -> Times:
        """The events' scores, mean or max."""
        if kind == "mean":
            return self.total / _UNIT / np.maximum(self.frames, 1)
        return self.peak.astype(np.float64)


NO_SPANS = Spans(
    np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
)


def events_of_frames(
    scores: Scores,
    step: float,
    config: PostConfig,
    classes: Sequence[str],
    *,
    path: str = "",
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> pl.DataFrame:
    """The events in the frame scores of a recording.

    Args:
        scores: `(frames, classes)` in [0, 1].
        step: seconds a frame; frame i covers `start + i * step` to `start + (i + 1) * step`.
        config: post-processing.
        classes: names of the columns of `scores`.
        path: of the recording, as it goes into the table.
        start: seconds at which the first frame begins.
        end: the recording's end; events are cut there, else the last frame's.
        channel: as it goes into the table.

    Returns:
        An events table, sorted by start, end and class.
    """
    stream = EventStream(config, classes, step, path=path, start=start, channel=channel)
    found = [stream.push(scores), stream.finish(end)]
    return pl.concat(found).sort("start", "end", "label", maintain_order=True)


class EventStream:
    """Frame scores in, events out; memory does not grow with the recording.

    Args:
        config: post-processing.
        classes: names of the columns.
        step: seconds a frame.
        path, start, channel: as `events_of_frames`.
    """

    def __init__(
        self,
        config: PostConfig,
        classes: Sequence[str],
        step: float,
        *,
        path: str = "",
        start: float = 0.0,
        channel: int | None = None,
    ) -> None:
        if not step > 0:
            raise ValueError(f"a frame lasts {step} seconds")
        self.classes, self.path, self.channel = tuple(classes), path, channel
        self._lanes = [_Lane(config.of(name), step, start) for name in self.classes]

    def push(self, scores: Scores) -> pl.DataFrame:
        """Take the next frames `(frames, classes)`; gives the events that are now complete.

        Raises:
            ValueError: another number of classes, or a score outside [0, 1].
        """
        scores = np.asarray(scores, np.float32)
        if scores.ndim != 2 or scores.shape[1] != len(self.classes):
            raise ValueError(f"scores are {scores.shape}, not (frames, {len(self.classes)})")
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError("scores must lie in [0, 1]")
        return self._table([lane.push(scores[:, i]) for i, lane in enumerate(self._lanes)])

    def finish(self, end: float | None = None) -> pl.DataFrame:
        """The recording is over, at `end` seconds if given: the events that were waiting."""
        return self._table([lane.finish(end) for lane in self._lanes])

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later, in plain values that JSON holds."""
        return {"classes": list(self.classes), "lanes": [lane.state() for lane in self._lanes]}

    def restore(self, state: Mapping[str, Any]) -> EventStream:
        """Go on where `state` was taken, in a stream made with the same arguments.

        Raises:
            ValueError: it is the state of other classes.
        """
        if list(state["classes"]) != list(self.classes):
            raise ValueError(f"the state is of classes {state['classes']}")
        for lane, saved in zip(self._lanes, state["lanes"], strict=True):
            lane.restore(saved)
        return self

    def _table(self, found: Sequence[Spans]) -> pl.DataFrame:
        rows = Spans.joined(found)
        if not len(rows.start):
            return pl.DataFrame(schema=EVENTS)
        counts = [len(spans.start) for spans in found]
        scores = [
            spans.score(lane.config.score) for spans, lane in zip(found, self._lanes, strict=True)
        ]
        columns = {
            "path": [self.path] * len(rows.start),
            "start": rows.start,
            "end": rows.end,
            "label": np.repeat(self.classes, counts),
            "score": np.concatenate(scores),
            "low_hz": [None] * len(rows.start),
            "high_hz": [None] * len(rows.start),
            "channel": [self.channel] * len(rows.start),
        }
        table = pl.DataFrame(columns, schema=EVENTS)
        return table.sort("start", "end", "label", maintain_order=True)


class _Lane:
    """One class of a stream: median filter, hysteresis, gaps and durations, one after the other."""

    def __init__(self, config: ClassPost, step: float, start: float) -> None:
        self.config, self.step, self.start = config, step, start
        self._reach = config.reach(step)
        self._raw = np.zeros(0, np.float32)  # what the median filter still looks at
        self._before: float | None = None  # the last filtered score
        self._seen = 0  # filtered frames
        self._open: Spans | None = None  # an event that has not ended; its end is not set
        self._waiting = NO_SPANS  # the last event, which the next may be joined to

    def push(self, scores: Scores) -> Spans:
        if not self._reach:
            return self._filtered(scores)
        if not len(self._raw) and len(scores):
            # The first and the last score stand for what lies beyond them.
            self._raw = np.repeat(scores[:1], self._reach)
        self._raw = np.concatenate([self._raw, scores])
        found = self._filtered(medians(self._raw, self._reach))
        self._raw = self._raw[max(0, len(self._raw) - 2 * self._reach) :].copy()
        return found

    def finish(self, end: float | None) -> Spans:
        parts = []
        if self._reach and len(self._raw):
            last = np.repeat(self._raw[-1:], self._reach)
            parts.append(self._filtered(medians(np.concatenate([self._raw, last]), self._reach)))
        last_ones = [self._waiting]
        if self._open is not None:
            last_ones.append(self._open._replace(end=np.array([self._time(self._seen)])))
        rest = closed_gaps(Spans.joined(last_ones), self.config.gap)
        if end is not None:
            rest = rest.take(rest.start < end)
            rest = rest._replace(end=np.minimum(rest.end, end))
        self._open, self._waiting = None, NO_SPANS
        return Spans.joined([*parts, self._fit(rest)])

    def state(self) -> dict[str, Any]:
        def lists(spans: Spans) -> list[list[float]]:
            return [column.tolist() for column in spans]

        return {
            "raw": self._raw.tolist(),
            "before": self._before,
            "seen": self._seen,
            "open": None if self._open is None else lists(self._open),
            "waiting": lists(self._waiting),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        def spans(lists: Any) -> Spans:
            kinds = (np.float64, np.float64, np.int64, np.int64, np.float32)
            return Spans(*(np.asarray(v, kind) for v, kind in zip(lists, kinds, strict=True)))

        self._raw = np.asarray(state["raw"], np.float32)
        self._before, self._seen = state["before"], state["seen"]
        self._open = None if state["open"] is None else spans(state["open"])
        self._waiting = spans(state["waiting"])

    def _filtered(self, scores: Scores) -> Spans:
        """Take filtered scores; gives the events that nothing can change any more."""
        if not len(scores):
            return NO_SPANS
        first = self._seen - (self._before is not None)
        if self._before is not None:
            scores = np.concatenate([np.array([self._before], np.float32), scores])
        spans, self._open = crossings(
            scores, self.config, self.step, self.start, first=first, carried=self._open
        )
        self._seen, self._before = first + len(scores), float(scores[-1])
        return self._closed(spans)

    def _closed(self, spans: Spans) -> Spans:
        """Events that have ended -> those that no later one can be joined to."""
        joined = closed_gaps(Spans.joined([self._waiting, spans]), self.config.gap)
        # The next one begins after the last score below the threshold, or has begun already.
        soonest = self._time(self._seen - 0.5) if self._open is None else self._open.start[0]
        done = len(joined.start)
        if done and not soonest - joined.end[-1] >= self.config.gap:
            done -= 1
        self._waiting = joined.take(slice(done, None))
        return self._fit(joined.take(slice(done)))

    def _fit(self, spans: Spans) -> Spans:
        return spans.take(fitting(spans, self.config.shortest, self.config.longest))

    def _time(self, frame: float) -> float:
        return self.start + frame * self.step


def medians(scores: Scores, reach: int) -> Scores:
    """Running medians of `2 * reach + 1` scores: `(n,)` -> `(n - 2 * reach,)`."""
    width = 2 * reach + 1
    if not reach:
        return scores
    if len(scores) < width:
        return scores[:0]
    windows = np.lib.stride_tricks.sliding_window_view(scores, width)
    result = np.empty(len(windows), np.float32)
    block = max(1, _BLOCK // width)
    for first in range(0, len(windows), block):
        part = np.partition(windows[first : first + block], reach, axis=1)
        result[first : first + block] = part[:, reach]
    return result


def crossings(
    scores: Scores,
    config: ClassPost,
    step: float,
    start: float = 0.0,
    *,
    first: int = 0,
    carried: Spans | None = None,
) -> tuple[Spans, Spans | None]:
    """Hysteresis: where scores rise to `high`, and where they fall below `low` afterwards.

    Args:
        scores: `(n,)` filtered scores, at least one.
        config: thresholds, interpolation.
        step, start: seconds a frame, and where frame 0 begins.
        first: number of the first frame given.
        carried: an event that is open at the first frame and has counted it already.

    Returns:
        The events that end, and the one that is open at the last frame.
    """
    high, low = np.float32(config.high), np.float32(config.closing)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], scores >= low, [False]])))
    begins, ends = edges[::2], edges[1::2]
    highs = np.flatnonzero(scores >= high)
    place = np.searchsorted(highs, begins)
    opened = np.append(highs, len(scores))[place]
    if carried is not None:
        opened[0] = 0
    keep = opened < ends
    opened, ends = opened[keep], ends[keep]
    if not len(opened):
        return NO_SPANS, None
    spans = Spans(
        start + step * _rise(scores, opened, high, first, config.interpolate),
        start + step * _fall(scores, ends, low, first, config.interpolate),
        *_sums(scores, opened, ends),
    )
    if carried is not None:
        spans = _continued(spans, carried, scores)
    if ends[-1] < len(scores):
        return spans, None
    return spans.take(slice(-1)), spans.take(slice(-1, None))


def closed_gaps(spans: Spans, gap: float) -> Spans:
    """Events less than `gap` seconds apart as one."""
    if len(spans.start) < 2 or gap <= 0:
        return spans
    fresh = np.append(True, spans.start[1:] - spans.end[:-1] >= gap)
    heads = np.flatnonzero(fresh)
    last = np.append(heads[1:], len(fresh)) - 1
    return Spans(
        spans.start[heads],
        spans.end[last],
        np.add.reduceat(spans.total, heads),
        np.add.reduceat(spans.frames, heads),
        np.maximum.reduceat(spans.peak, heads),
    )


def fitting(spans: Spans, shortest: float, longest: float | None) -> NDArray[np.bool_]:
    """Mask of the events whose duration is allowed."""
    lasts = spans.end - spans.start
    keep = lasts >= shortest
    return keep if longest is None else keep & (lasts <= longest)


def _rise(
    scores: Scores, at: NDArray[np.int64], high: np.float32, first: int, interpolate: bool
) -> Times:
    """Place, in frames, at which the score reaches `high`; frame `at` is the first that does."""
    border = (at + first).astype(np.float64)
    if not interpolate:
        return border
    before, here = scores[at - 1].astype(np.float64), scores[at].astype(np.float64)
    inside = at > 0
    share = np.zeros(len(at))
    np.divide(np.float64(high) - before, here - before, out=share, where=inside)
    return np.where(inside, border - 0.5 + share, border)


def _fall(
    scores: Scores, at: NDArray[np.int64], low: np.float32, first: int, interpolate: bool
) -> Times:
    """Place, in frames, at which the score falls below `low`; frame `at` is the first below."""
    border = (at + first).astype(np.float64)
    if not interpolate:
        return border
    inside = at < len(scores)
    here = scores[at - 1].astype(np.float64)
    after = scores[np.minimum(at, len(scores) - 1)].astype(np.float64)
    share = np.zeros(len(at))
    np.divide(here - np.float64(low), here - after, out=share, where=inside)
    return np.where(inside, border - 0.5 + share, border)


def _sums(
    scores: Scores, begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Scores]:
    """Sum, count and maximum of the scores from each begin to its end."""
    whole = np.rint(scores.astype(np.float64) * _UNIT).astype(np.int64)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(whole)])
    # Pairs of borders; every second stretch is an event, the others lie between.
    borders = np.stack([begins, np.minimum(ends, len(scores) - 1)], 1).ravel()
    peak = np.maximum.reduceat(scores, borders)[::2]
    peak = np.where(ends == len(scores), np.maximum(peak, scores[-1]), peak)
    return before[ends] - before[begins], ends - begins, peak


def _continued(spans: Spans, carried: Spans, scores: Scores) -> Spans:
    """The first event, which began earlier and has counted the first frame already."""
    seen = int(np.rint(np.float64(scores[0]) * _UNIT))
    here = spans.take(slice(1))
    head = Spans(
        carried.start,
        here.end,
        here.total + carried.total - seen,
        here.frames + carried.frames - 1,
        np.maximum(here.peak, carried.peak),
    )
    return Spans.joined([head, spans.take(slice(1, None))])
