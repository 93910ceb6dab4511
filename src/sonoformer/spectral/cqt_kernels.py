"""The constant-Q transform as convolution with its kernels: for export, and for training them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.tables import Tables


class _Band(NamedTuple):
    """Neighbouring bins whose kernels are of about the same length, `2 half + 1` padded."""

    bins: slice
    half: int


class KernelBank(Tables):
    """Kernels of all bins, an octave of lengths in each table.

    A table is `(2 bins, 1, 2 half + 1)`: real parts, then imaginary parts of the conjugated
    kernels. Tables are parameters where they are trained, else buffers that no checkpoint keeps.
    """

    def __init__(self, config: CqtConfig) -> None:
        super().__init__()
        self.config = config
        self._bands = {f"octave{i}": band for i, band in enumerate(_bands(config))}
        self._lay_tables()
        if config.trainable:
            for name, table in self.analytic().items():
                self.register_parameter(name, nn.Parameter(table.float()))

    def analytic(self) -> dict[str, Tensor]:
        """The tables before any training, float64."""
        return {name: _table(self.config, band) for name, band in self._bands.items()}

    @torch.no_grad()
    def reset_to_analytic(self) -> None:
        """Undo all training."""
        for name, table in self.analytic().items():
            getattr(self, name).copy_(table)

    def _tables(self) -> dict[str, Tensor]:
        return {} if self.config.trainable else self.analytic()

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary planes.

        Args:
            wave: `(batch, reach + samples + reach + 1)`: clips continued on both sides.

        Returns:
            Two of `(batch, 1 + samples // hop, bins)`.
        """
        reach, hop = self.config.reach, self.config.hop_length
        wave = wave.unsqueeze(1)
        planes = []
        for name, band in self._bands.items():
            rest = reach - band.half
            part = wave[..., rest : wave.shape[-1] - rest]
            planes.append(F.conv1d(part, getattr(self, name).to(wave.dtype), stride=hop))
        halves = [plane.chunk(2, 1) for plane in planes]
        real, imaginary = (torch.cat(parts, 1) for parts in zip(*halves, strict=True))
        return real.transpose(1, 2), imaginary.transpose(1, 2)


def table_values(config: CqtConfig) -> int:
    """Numbers that a bank of this transform holds."""
    return sum(2 * (b.bins.stop - b.bins.start) * (2 * b.half + 1) for b in _bands(config))


def _bands(config: CqtConfig) -> list[_Band]:
    """From the lowest bin up; a band's shortest kernel is at least half as long as its longest."""
    lengths, found, start = config.lengths, [], 0
    for bin_ in range(1, config.n_bins + 1):
        if bin_ == config.n_bins or 2 * lengths[bin_] <= lengths[start]:
            found.append(_Band(slice(start, bin_), (lengths[start] + 1) // 2))
            start = bin_
    return found


def _table(config: CqtConfig, band: _Band) -> Tensor:
    count = band.bins.stop - band.bins.start
    table = torch.zeros(2, count, 1, 2 * band.half + 1, dtype=torch.float64)
    for row, bin_ in enumerate(range(band.bins.start, band.bins.stop)):
        start, kernel = config.kernel(bin_)
        place = band.half + start
        table[0, row, 0, place : place + len(kernel)] = kernel.real
        table[1, row, 0, place : place + len(kernel)] = -kernel.imag
    return table.flatten(0, 1)
