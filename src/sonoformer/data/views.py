"""Parts and selections of a source, which are sources again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.sources import ClipSource


class Subset:
    """Some items of a source, in a given order.

    Args:
        source: the items.
        rows: those to show.
    """

    def __init__(self, source: ClipSource, rows: NDArray[np.int64]) -> None:
        self.source, self.rows = source, rows
        self.sample_rate = source.sample_rate
        self.lengths: np.ndarray = source.lengths[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """The item's recording."""
        return self.source.name(int(self.rows[index]))

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`."""
        return self.source.read(int(self.rows[index]), start, count)


class First:
    """The beginnings of items: what is past the first samples is not there.

    Args:
        source: the items.
        samples: the most that is left of an item.

    Attributes:
        rows: `(items,)` the items' own numbers.
    """

    def __init__(self, source: ClipSource, samples: int) -> None:
        self.source, self.sample_rate = source, source.sample_rate
        self.rows: NDArray[np.int64] = np.arange(len(source))
        self.lengths: np.ndarray = np.minimum(source.lengths, samples)

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """The item's recording."""
        return self.source.name(index)

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`, no further than the item's new end."""
        return self.source.read(index, start, min(count, int(self.lengths[index]) - start))


class Parts:
    """Parts of items, which are items again.

    Args:
        source: the items.
        rows: `(parts,)` the item of each part.
        starts, lengths: `(parts,)` its first sample, and how many it has.
    """

    def __init__(
        self,
        source: ClipSource,
        rows: NDArray[np.int64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        self.source, self.sample_rate = source, source.sample_rate
        self.rows, self.starts = rows, starts
        self.lengths: np.ndarray = lengths

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """The part's recording."""
        return self.source.name(int(self.rows[index]))

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`, from the part's beginning."""
        count = min(count, int(self.lengths[index]) - start)
        return self.source.read(int(self.rows[index]), int(self.starts[index]) + start, count)


class Windows(Parts):
    """Items longer than a window as several windows, evenly spread; shorter ones as they are.

    Args:
        source: the items.
        samples: length of a window.
    """

    def __init__(self, source: ClipSource, samples: int) -> None:
        self.samples = samples
        counts = np.maximum(1, -(-source.lengths // samples))
        rows = np.repeat(np.arange(len(source)), counts)
        starts = np.concatenate(
            [
                np.linspace(0, max(0, length - samples), count).astype(np.int64)
                for length, count in zip(source.lengths, counts, strict=True)
            ]
        )
        super().__init__(source, rows, starts, np.minimum(source.lengths[rows], samples))

    def means(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean over each item's windows: `(windows, k)` -> `(items, k)`."""
        sums = np.zeros((len(self.source), values.shape[1]), np.float64)
        np.add.at(sums, self.rows, values)
        return (sums / np.bincount(self.rows)[:, None]).astype(np.float32)


class Pieces(Parts):
    """Items divided into equal pieces of at least `samples` and less than twice as many.

    A random crop of `samples` from each piece then passes over the whole recording once an epoch,
    at places that differ from epoch to epoch. Items shorter than that stay whole.

    Args:
        source: the items.
        samples: length of a crop.
    """

    def __init__(self, source: ClipSource, samples: int) -> None:
        counts = np.maximum(1, source.lengths // samples)
        rows = np.repeat(np.arange(len(source)), counts)
        number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        whole, count = source.lengths[rows], counts[rows]
        starts = whole * number // count
        super().__init__(source, rows, starts, whole * (number + 1) // count - starts)
