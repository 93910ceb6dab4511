"""Which clip comes when: the order of a whole training run as a pure function of its seed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonoformer.data.keys import numpy_generator
from sonoformer.data.lanes import Lanes
from sonoformer.errors import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draw:
    """A clip at its place.

    Attributes:
        epoch: pass over the data, from 0.
        position: place in the epoch's order over all processes; everything random about the clip
            is keyed by it.
        index: row of the data set.
    """

    epoch: int
    position: int
    index: int


class Order:
    """The clips of every batch of a run.

    Asking for a batch leaves no trace, so a run goes on at any step by asking for that step.

    Args:
        n: number of clips.
        batch_size: clips a batch over all processes; limited to the clips of an epoch, so that
            there is never no batch.
        seed: of the order.
        shuffle: a new permutation each epoch; otherwise rows in order.
        weights: `(n,)` relative chances; clips are then drawn with replacement (balanced sampling).
        lengths: `(n,)` samples; clips of similar length then share a batch: each stretch of
            `bucket` batches of the permutation is sorted by length and its batches are shuffled.
        shards: `(n,)` the file that holds each clip; files are then read one after the other, and
            clips shuffled as well as that allows, see `lanes`.
        samples: clips an epoch; `n` by default.
        bucket: batches sorted together.

    Raises:
        UserError: no clips, or weights that are negative, not finite or all zero.
    """

    def __init__(
        self,
        n: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        weights: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        shards: np.ndarray | None = None,
        samples: int | None = None,
        bucket: int = 50,
    ) -> None:
        if n < 1:
            raise UserError("no clips to train on")
        self.n, self.seed, self.shuffle, self.bucket = n, seed, shuffle, bucket
        self.samples = n if samples is None else samples
        if batch_size < 1 or self.samples < 1:
            raise UserError(
                f"batch_size and the clips an epoch must be at least 1; got {batch_size} and "
                f"{self.samples}"
            )
        if batch_size > self.samples:
            _log.warning(
                "batch_size: %d is more than the %d clips of an epoch; batches hold %d",
                batch_size,
                self.samples,
                self.samples,
            )
        self.batch_size = min(batch_size, self.samples)
        self._chances = None if weights is None else _cumulative(weights, n)
        self.lengths = None if lengths is None else np.asarray(lengths)
        if self.lengths is not None and self.lengths.shape != (n,):
            raise ValueError(f"lengths have the shape {self.lengths.shape}, not {(n,)}")
        if shards is not None and (not shuffle or shards.shape != (n,)):
            raise ValueError(f"shards are for shuffled rows, one each; got {shards.shape} of {n}")
        self.lanes = None if shards is None else Lanes(shards, self.batch_size)
        self._cached: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch; clips of a last, smaller batch come in another epoch."""
        return self.samples // self.batch_size

    def batch(self, step: int) -> list[Draw]:
        """The clips of batch `step`, counted over the whole run."""
        epoch, number = divmod(step, self.steps_per_epoch)
        first = number * self.batch_size
        rows = self.epoch(epoch)[first : first + self.batch_size].tolist()
        return [Draw(epoch, first + i, row) for i, row in enumerate(rows)]

    def epoch(self, epoch: int) -> np.ndarray:
        """Rows of the data set in the order of one epoch, whole batches only."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._arrange(epoch))
        return self._cached[1]

    def _arrange(self, epoch: int) -> np.ndarray:
        random = numpy_generator(self.seed, "order", epoch)
        if self._chances is not None:
            rows = np.searchsorted(self._chances, random.random(self.samples), side="right")
        elif self.shuffle:
            rows = np.resize(random.permutation(self.n), self.samples)
        else:
            rows = np.resize(np.arange(self.n), self.samples)
        rows = rows[: self.steps_per_epoch * self.batch_size]
        if self.lanes is not None:
            return self.lanes.arrange(rows, random, self.lengths, self.bucket)
        return rows if self.lengths is None else self._bucketed(rows, random)

    def _bucketed(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        assert self.lengths is not None
        stretch = self.bucket * self.batch_size
        parts = []
        for first in range(0, len(rows), stretch):
            part = rows[first : first + stretch]
            # A stable sort leaves clips of equal length in the order of the permutation.
            part = part[np.argsort(self.lengths[part], kind="stable")]
            parts.append(part.reshape(-1, self.batch_size))
        batches = np.concatenate(parts)
        return batches[random.permutation(len(batches))].reshape(-1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None}


def _cumulative(weights: np.ndarray, n: int) -> np.ndarray:
    """Upper ends of the rows' shares of [0, 1)."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (n,):
        raise ValueError(f"weights have the shape {weights.shape}, not {(n,)}")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise UserError("sampling weights must be finite, not negative, and not all zero")
    ends = weights.cumsum()
    # Divided by the last one itself, so that it is exactly 1 and rows of weight 0 behind the last
    # positive one are out of reach.
    return ends / ends[-1]
