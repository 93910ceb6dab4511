"""The windows of one recording -> its frame scores -> its events, in constant memory."""

from __future__ import annotations

from collections import deque

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.evaluation.events.post import PostConfig
from sonoformer.evaluation.events.stream import EventStream
from sonoformer.inference.overlap import OverlapAdd, WindowPlan
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scorefile import ScoreFile
from sonoformer.tasks.detection.scoring import sigmoid

_TOGETHER = 4096
"""Frames that go through post-processing at once."""
_REMEMBERED = 1 << 15
"""Frames of which the bands are kept for events that have not ended; of longer ones, the end."""


class Track:
    """One recording on its way.

    Args:
        model: the detector.
        plan: its windows.
        post: how scores become events.
        path, channel: as they go into the table.
        file: takes the frame scores, if they are wanted.
        hertz: `(rows, 2)` bands of token rows, where windows bring rows.
    """

    def __init__(
        self,
        model: Detector,
        plan: WindowPlan,
        post: PostConfig,
        *,
        path: str,
        channel: int | None = None,
        file: ScoreFile | None = None,
        hertz: NDArray[np.float64] | None = None,
    ) -> None:
        self.model, self.plan, self.file = model, plan, file
        self._classes, grid = len(model.classes), model.grid
        self._adder = OverlapAdd(plan, self._classes * (1 if hertz is None else 3))
        start = grid.first - grid.step / 2
        self._stream = EventStream(
            post, model.classes, grid.step, path=path, start=start, channel=channel
        )
        self._bands = None if hertz is None else Bands(model.classes, hertz, start, grid.step)
        self._waiting: list[NDArray[np.float32]] = []
        self._count = 0
        self.events: list[pl.DataFrame] = []

    def add(self, index: int, values: NDArray[np.float32], real: int) -> None:
        """The columns of window `index`, `(columns, classes)` logits with the lowest and highest
        row of each behind them where there are bands; `real` of them are the recording's."""
        # A recording shorter than a column is heard all the same.
        count = min(max(real, int(index == 0)), self.plan.columns)
        self._waiting.append(self._adder.add(index, values[:count]))
        self._count += len(self._waiting[-1])
        if self._count >= _TOGETHER:
            self._push()

    def finish(self, seconds: float) -> pl.DataFrame:
        """All events of the recording, which lasts `seconds`."""
        self._waiting.append(self._adder.end())
        self._push()
        self._take(self._stream.finish(seconds))
        if self.file is not None:
            self.file.close()
        return pl.concat(self.events).sort("start", "end", "label", maintain_order=True)

    def _push(self) -> None:
        values = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        scores = self.model.frame_scores(np.ascontiguousarray(values[:, : self._classes]))
        if self.file is not None:
            self.file.add(scores)
        if self._bands is not None:
            self._bands.add(values[:, self._classes :])
        self._take(self._stream.push(scores))

    def _take(self, events: pl.DataFrame) -> None:
        self.events.append(events if self._bands is None else self._bands.of(events))


class Bands:
    """The band of each event, from the token rows in which its frames are heard.

    Args:
        classes: names.
        hertz: `(rows, 2)` Hz of each row.
        start, step: seconds at which frame 0 begins, and of a frame.
    """

    def __init__(
        self, classes: tuple[str, ...], hertz: NDArray[np.float64], start: float, step: float
    ) -> None:
        self._index = {name: number for number, name in enumerate(classes)}
        self._hertz, self._start, self._step = hertz, start, step
        self._kept: deque[NDArray[np.float32]] = deque()
        self._first = self._frames = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        """`(frames, 2 * classes)`: lowest rows, then highest rows."""
        self._kept.append(rows)
        self._frames += len(rows)
        while self._frames - len(self._kept[0]) >= _REMEMBERED:
            gone = len(self._kept.popleft())
            self._frames, self._first = self._frames - gone, self._first + gone

    def of(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with their bands: the medians over their frames."""
        if events.is_empty():
            return events
        rows = np.concatenate(list(self._kept))
        low, high = [], []
        for label, start, end in events.select("label", "start", "end").iter_rows():
            first, last = ((time - self._start) / self._step - self._first for time in (start, end))
            begin = int(np.clip(round(first), 0, len(rows) - 1))
            inside = rows[begin : max(begin + 1, round(last))]
            edges = np.median(inside, axis=0).round().astype(int)
            number = self._index[label]
            low.append(float(self._hertz[edges[number], 0]))
            high.append(float(self._hertz[edges[number + len(self._index)], 1]))
        return events.with_columns(pl.Series("low_hz", low), pl.Series("high_hz", high))


def row_extent(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(…, rows, classes)` logits -> `(…, 2 * classes)`: lowest and highest row whose score is at
    least half of the highest row's."""
    scores = sigmoid(cells)
    near = scores >= scores.max(-2, keepdims=True) / 2
    rows = near.shape[-2]
    low = near.argmax(-2)
    high = rows - 1 - near[..., ::-1, :].argmax(-2)
    return np.concatenate([low, high], -1).astype(np.float32)
