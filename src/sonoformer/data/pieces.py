"""Long recordings as many items, so that an epoch hears all of them."""

from __future__ import annotations

import numpy as np

from sonoformer.data.sources import ClipSource


class Pieces:
    """Items divided into equal pieces of at least `samples` and less than twice as many.

    A random crop of `samples` from each piece then passes over the whole recording once an epoch,
    at places that differ from epoch to epoch. Items shorter than that stay whole.

    Args:
        source: the items.
        samples: length of a crop.

    Attributes:
        rows: `(pieces,)` the item that each piece belongs to.
    """

    def __init__(self, source: ClipSource, samples: int) -> None:
        self.source, self.sample_rate = source, source.sample_rate
        counts = np.maximum(1, source.lengths // samples)
        self.rows = np.repeat(np.arange(len(source)), counts)
        number = np.arange(len(self.rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        whole, count = source.lengths[self.rows], counts[self.rows]
        self.starts = whole * number // count
        self.lengths: np.ndarray = whole * (number + 1) // count - self.starts

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """The piece's recording."""
        return self.source.name(int(self.rows[index]))

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`, from the piece's beginning."""
        count = min(count, int(self.lengths[index]) - start)
        return self.source.read(int(self.rows[index]), int(self.starts[index]) + start, count)
