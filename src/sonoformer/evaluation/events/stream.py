"""Frame scores to events, for recordings of any length in constant memory.

`EventStream` takes the frames of a recording in pieces of any size and gives, to the bit, the
events that the whole would give. Three things make that so: times are computed from absolute frame
numbers; the mean of an event's scores is a sum of integers, which no order of adding changes; and
an event that is open, or could still grow into the next one, waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from sonoformer.data.events import EVENTS
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
