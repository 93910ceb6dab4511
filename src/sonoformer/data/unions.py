"""Stretches of time put together: where they lie, and what share of any cell they cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def merged(pairs: Sequence[tuple[float, float]]) -> tuple[Times, Times]:
    """Stretches that touch as one: their begins and ends, rising."""
    if not pairs:
        return np.zeros(0), np.zeros(0)
    table = np.asarray(sorted(pairs), np.float64)
    latest = np.maximum.accumulate(table[:, 1])
    fresh = np.append(True, table[1:, 0] > latest[:-1])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(table) - 1)
    return table[fresh, 0], latest[last]


class Union:
    """Stretches of time put together, and how much of them lies before any moment."""

    def __init__(self, pairs: Sequence[tuple[float, float]]) -> None:
        self.begins, self.ends = merged(pairs)
        lengths = self.ends - self.begins
        before = np.concatenate([[0.0], np.cumsum(lengths)])
        self._times = np.stack([self.begins, self.ends], 1).ravel()
        self._sums = np.stack([before[:-1], before[1:]], 1).ravel()

    def __bool__(self) -> bool:
        return len(self.begins) > 0

    @property
    def seconds(self) -> float:
        """Their length in all."""
        return float((self.ends - self.begins).sum())

    def share(self, edges: Times) -> Times:
        """`(cells,)` share of each cell between `edges` `(cells + 1,)` that they cover."""
        if not len(self.begins):
            return np.zeros(len(edges) - 1)
        return np.diff(np.interp(edges, self._times, self._sums)) / np.diff(edges)

    def middles(self, edges: Times) -> NDArray[np.int64]:
        """The cells in which the middle of a stretch lies."""
        cells = np.searchsorted(edges, (self.begins + self.ends) / 2, side="right") - 1
        return np.asarray(cells[(cells >= 0) & (cells < len(edges) - 1)])
