"""Overlapping windows put together again: one value for every column of a long recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError

Join = Literal["triangle", "centre"]
_FAINT = 1e-9


@dataclass(frozen=True)
class WindowPlan:
    """Windows that begin on columns.

    Attributes:
        columns: of a window.
        hop: columns from one window's beginning to the next one's.
        join: triangle: where windows overlap, each counts more the farther a column is from its
            ends; centre: only the window in whose middle the column lies counts.
    """

    columns: int
    hop: int
    join: Join = "triangle"

    @classmethod
    def of(cls, columns: int, overlap: float, join: Join = "triangle") -> WindowPlan:
        """The plan whose windows repeat about a share `overlap` of the one before.

        Raises:
            UserError: the share is not at least 0 and below 1.
        """
        if not 0 <= overlap < 1:
            raise UserError(f"overlap: must be at least 0 and below 1; got {overlap}")
        return cls(columns, max(1, round(columns * (1 - overlap))), join)

    def weights(self) -> NDArray[np.float64]:
        """`(columns,)` how much each column of a window counts; never nothing, because at a
        recording's ends there is no other window."""
        place = np.arange(self.columns)
        if self.join == "triangle":
            return np.minimum(place + 1.0, self.columns - place)
        margin = (self.columns - self.hop) // 2
        return np.where((place >= margin) & (place < margin + self.hop), 1.0, _FAINT)

    def count(self, columns: int) -> int:
        """Windows that a recording of `columns` columns needs; at least one."""
        return 1 + max(0, -(-(columns - self.columns) // self.hop))


class OverlapAdd:
    """Weighted means of the values of overlapping windows, with the memory of one window.

    The values of a recording's windows go in one after the other; what no later window can change
    comes out. Every column of the recording comes out once, in order.

    Args:
        plan: the windows.
        values: values a column.
    """

    def __init__(self, plan: WindowPlan, values: int) -> None:
        self.plan, self._weights = plan, plan.weights()
        self._sums = np.zeros((0, values))
        self._weight = np.zeros(0)
        self._begin = 0

    def add(self, index: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values `(columns or fewer, values)` of window `index` -> finished `(columns, values)`.

        Raises:
            ValueError: an earlier window comes after a later one, or one is left out.
        """
        start = index * self.plan.hop
        if not self._begin <= start <= self._begin + len(self._sums):
            raise ValueError(f"window {index} does not follow what came before")
        finished = self._take(start - self._begin)
        missing = len(values) - len(self._sums)
        if missing > 0:
            self._sums = np.pad(self._sums, ((0, missing), (0, 0)))
            self._weight = np.pad(self._weight, (0, missing))
        weight = self._weights[: len(values)]
        self._sums[: len(values)] += weight[:, None] * values
        self._weight[: len(values)] += weight
        return finished

    def end(self) -> NDArray[np.float32]:
        """What is left when no window follows."""
        return self._take(len(self._sums))

    def _take(self, count: int) -> NDArray[np.float32]:
        done = self._sums[:count] / self._weight[:count, None]
        self._sums, self._weight = self._sums[count:], self._weight[count:]
        self._begin += count
        return done.astype(np.float32)
