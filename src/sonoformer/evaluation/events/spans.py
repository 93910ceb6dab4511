"""Where the scores of one class rise and fall: median filter, hysteresis, gaps, durations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.events.post import ClassPost

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
