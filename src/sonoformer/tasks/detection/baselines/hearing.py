"""Log-mel levels of recordings on a detector's time cells, a minute at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sonoformer.data.sources import FULL_SCALE, ClipSource
from sonoformer.encoders.columns import ColumnGrid
from sonoformer.spectral import FbankConfig, FrontEnd
from sonoformer.spectral.scales import from_scale, to_scale

Levels = NDArray[np.float32]
BINS = 40
MINUTE = 60.0  # seconds, over which the background is measured
QUIET = 20.0  # percentile of the levels of a bin that counts as its background
CONTEXT = 2  # cells on either side that a decision looks at


@dataclass(frozen=True, eq=False)
class Minute:
    """Cells of a recording that lie side by side, with those around them.

    Attributes:
        first: number of the first cell.
        mean: `(cells + 2 * CONTEXT, bins)` mean log-mel energy in each cell; the first and last
            `CONTEXT` lie around the minute, and at a recording's ends repeat its outermost cell.
        spread: of the same shape, the standard deviation in each cell.
        quiet: `(bins,)` the background: the level that a fifth of the minute's cells stay below.
    """

    first: int
    mean: Levels
    spread: Levels
    quiet: Levels

    def __len__(self) -> int:
        return len(self.mean) - 2 * CONTEXT

    def shifted(self, cells: int) -> Levels:
        """`(cells, bins)` mean levels of the cells that lie `cells` later."""
        begin = CONTEXT + cells
        return self.mean[begin : begin + len(self)]

    def over(self, low: int = 0, high: int | None = None) -> Levels:
        """`(cells,)` how far the energy of bins `low` to `high - 1` lies above the background, as a
        natural logarithm."""
        return louder(self.shifted(0), self.quiet, low, high)


def louder(mean: Levels, quiet: Levels, low: int = 0, high: int | None = None) -> Levels:
    """Log energy in bins `low` to `high - 1` above that of the background; both `(..., bins)`."""
    return np.asarray(
        np.log(np.exp(mean[..., low:high]).sum(-1)) - np.log(np.exp(quiet[..., low:high]).sum(-1)),
        np.float32,
    )


@dataclass(frozen=True)
class Hearing:
    """Mel energies in the cells of a detector's columns, whatever the detector itself hears.

    The frames whose middles lie in a cell are its frames; they have the length, the step and the
    range in frequency of the detector's, but no preemphasis, which would hide low calls.

    Args:
        grid: the detector's columns.
    """

    grid: ColumnGrid
    front: FrontEnd = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", FrontEnd(self._config))

    @property
    def _config(self) -> FbankConfig:
        return replace(
            self.grid.front,
            transform="kaldi",
            compress="log",
            trainable=False,
            level="keep",
            preemphasis=0.0,
            fixed_frames=None,
            n_mels=BINS,
        )

    def hertz(self) -> NDArray[np.float64]:
        """`(bins, 2)` Hz of the recordings: the edges of each bin."""
        config = self._config
        ends = to_scale(torch.tensor([config.low_hz, config.top_hz], dtype=torch.float64), "kaldi")
        edges = torch.linspace(float(ends[0]), float(ends[1]), BINS + 2, dtype=torch.float64)
        # A model that is played recordings faster hears them higher.
        hertz = from_scale(edges, "kaldi").numpy() * self.grid.rate / config.sample_rate
        return np.stack([hertz[:-2], hertz[2:]], 1)

    def cells(self, source: ClipSource, item: int) -> int:
        """Cells of a recording, as many as the detector's columns; at least one."""
        return max(1, self.grid.count(int(source.lengths[item])))

    def minutes(self, source: ClipSource, item: int) -> Iterator[Minute]:
        """A recording from beginning to end, in constant memory.

        The background of the last minute, which may be short, is that of the last whole one.

        Raises:
            AudioError: it cannot be read.
        """
        count, size = self.cells(source, item), max(1, round(MINUTE / self.grid.step))
        for first in range(0, count, size):
            stop = min(count, first + size)
            around = max(0, stop - size)
            low, high = max(0, around - CONTEXT), min(count, stop + CONTEXT)
            mean, spread = self._heard(source, item, low, high)
            quiet = np.percentile(mean[around - low : stop - low], QUIET, axis=0)
            places = np.clip(np.arange(first - CONTEXT, stop + CONTEXT), low, high - 1) - low
            yield Minute(first, mean[places], spread[places], quiet.astype(np.float32))

    def _heard(self, source: ClipSource, item: int, low: int, high: int) -> tuple[Levels, Levels]:
        """Mean and standard deviation in cells `low` to `high - 1`, each `(cells, bins)`."""
        grid, config = self.grid, self._config
        middle = (grid.first - grid.step / 2) * grid.rate + config.hop_length / 2
        begin = low * grid.samples + round(middle - config.window_length / 2)
        frames = (high - low) * grid.stride
        wave = np.zeros((frames - 1) * config.hop_length + config.window_length, np.float32)
        ahead = max(0, -begin)
        sound = source.read(item, max(0, begin), len(wave) - ahead)
        scale = FULL_SCALE if sound.dtype == np.int16 else 1
        wave[ahead : ahead + len(sound)] = sound / np.float32(scale)
        with torch.inference_mode():
            levels = self.front.raw(torch.from_numpy(wave)[None])[0][0].numpy()
        levels = levels[:frames].reshape(high - low, grid.stride, -1)
        return levels.mean(1), levels.std(1)
