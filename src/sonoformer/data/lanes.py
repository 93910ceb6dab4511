"""The order of an epoch that reads shards one after the other.

A disk or a network gives its best to who reads large files from end to end, and each process is
to read files of its own. So:

- In each epoch the shards are put into a new random order, and taken `window` at a time; the clips
  of a window are shuffled together. This sequence holds every clip of the epoch once (or as often
  as it was drawn, where clips are drawn by weight).
- The sequence is cut into lanes, equal stretches of it that are read side by side. Position p of
  batch s comes from lane (s mod tracks, p mod columns). Processes take the positions of a batch in
  turn, so, where their number divides that of the columns, each reads lanes of its own; and loader
  workers take the batches in turn, so, where their number divides that of the tracks, they do too.

Lanes follow from the batch size and the number of shards alone. Neither processes nor workers have
a say in which clips a batch holds, so a run may be resumed by any number of them, in the middle of
a shard too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
MOST = 16  # columns: more shards than this, times window and tracks, are hardly a stream any more
WINDOW = 4


class Lanes:
    """Arranges the clips of an epoch.

    Args:
        shards: `(clips,)` which shard each clip lies in.
        batch_size: clips a batch.
        window: shards whose clips are shuffled together.

    Attributes:
        columns: lanes side by side in a batch, a divisor of `batch_size`.
        tracks: batches in a row that come from different lanes.
    """

    def __init__(self, shards: NDArray[np.int64], batch_size: int, window: int = WINDOW) -> None:
        _, self._place = np.unique(shards, return_inverse=True)
        self._count, self.window, self._batch = int(self._place.max()) + 1, window, batch_size
        windows = max(1, self._count // window)
        most = min(MOST, windows, batch_size)
        self.columns = next(n for n in range(most, 0, -1) if batch_size % n == 0)
        self.tracks = next(n for n in (4, 2, 1) if n * self.columns <= windows or n == 1)

    def arrange(
        self,
        rows: Rows,
        random: np.random.Generator,
        lengths: NDArray[np.int64] | None = None,
        bucket: int = 50,
    ) -> Rows:
        """The rows of an epoch, a multiple of the batch size, in the order of its batches.

        Args:
            rows: the clips, in any order; a row may occur several times.
            random: of this epoch.
            lengths: `(clips,)` samples; clips of similar length then share a batch, as far as
                `bucket` batches hold them.
            bucket: batches sorted together.
        """
        turn = random.permutation(self._count)[self._place] // self.window
        rows = rows[np.lexsort((random.random(len(rows)), turn[rows]))]
        batches = np.empty((len(rows) // self._batch, self._batch), rows.dtype)
        done = 0
        for track in range(self.tracks):
            steps = len(batches[track :: self.tracks])
            own = np.empty((steps, self._batch), rows.dtype)
            for column in range(self.columns):
                lane = own[:, column :: self.columns]
                lane[...] = rows[done : done + lane.size].reshape(lane.shape)
                done += lane.size
            if lengths is not None:
                self._sort(own, lengths, random, max(1, bucket // self.tracks))
            batches[track :: self.tracks] = own
        return batches.reshape(-1)

    def _sort(
        self, batches: Rows, lengths: NDArray[np.int64], random: np.random.Generator, bucket: int
    ) -> None:
        """Clips of similar length into the same batch, each within its lane."""
        for first in range(0, len(batches), bucket):
            block = batches[first : first + bucket]
            for column in range(self.columns):
                lane = block[:, column :: self.columns].reshape(-1)
                lane = lane[np.argsort(lengths[lane], kind="stable")]
                block[:, column :: self.columns] = lane.reshape(len(block), -1)
            block[...] = block[random.permutation(len(block))]
