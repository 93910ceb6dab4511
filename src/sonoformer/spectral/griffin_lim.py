"""Waveforms from magnitudes alone: fast Griffin-Lim."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.istft import Istft
from sonoformer.spectral.options import configured, refuse_outside
from sonoformer.spectral.stft import Stft
from sonoformer.spectral.stft_config import StftConfig


@dataclass(frozen=True)
class GriffinLimConfig:
    """How long and how fast phases are sought."""

    iterations: int = 32
    """Times that the spectra are made consistent."""
    momentum: float = 0.99
    """How far each step goes on in the last one's direction; 0 is Griffin and Lim's own."""
    seed: int = 0
    """Of the phases that it begins with."""
    stft: StftConfig = field(default_factory=lambda: StftConfig(hop_length=512))
    """The transform that the magnitudes are of."""

    def __post_init__(self) -> None:
        refuse_outside(self, 0, 10**6, "iterations")
        refuse_outside(self, 0, 2**63 - 1, "seed")
        if not 0 <= self.momentum < math.inf:
            raise UserError(f"momentum: must be at least 0 and finite; got {self.momentum}")
        if self.stft.trainable != "none":
            raise UserError("stft.trainable: phases are sought for a fixed transform only")


class GriffinLim(torch.nn.Module):
    """Magnitudes -> waveforms (Perraudin, Balazs and Søndergaard 2013).

    The first phases are the same for every clip and depend on the seed alone: a clip sounds the
    same alone and in a padded batch.
    """

    def __init__(self, config: GriffinLimConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(GriffinLimConfig, config, options)
        self.stft, self.istft = Stft(config.stft), Istft(config.stft)

    def forward(
        self, magnitude: Tensor, lengths: Tensor | None = None, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Waveforms.

        Args:
            magnitude: `(…, frames, bins)`, not squared.
            lengths: `(…)` samples of each clip; all of them if absent.
            length: samples of a row; as many as the frames reach if absent.

        Returns:
            `(…, length)` and `(…)` samples of each clip.
        """
        with torch.autocast(magnitude.device.type, enabled=False):
            if magnitude.dtype != torch.float64:
                magnitude = magnitude.float()
            return self._sought(magnitude, lengths, length)

    def _sought(
        self, magnitude: Tensor, lengths: Tensor | None, length: int | None
    ) -> tuple[Tensor, Tensor]:
        count, pull = magnitude.shape[-2], self.config.momentum / (1 + self.config.momentum)
        angle = 2 * math.pi * self._phases(magnitude)
        re, im = magnitude * angle.cos(), magnitude * angle.sin()
        before: tuple[Tensor, Tensor] | None = None
        for _ in range(self.config.iterations):
            wave, ends = self.istft(re, im, lengths, length)
            now_re, now_im, _ = self.stft.planes(wave, ends)
            now_re, now_im = now_re[..., :count, :], now_im[..., :count, :]
            re, im = now_re, now_im
            if before is not None:
                re, im = re - pull * before[0], im - pull * before[1]
            before = now_re, now_im
            size = (re.square() + im.square()).clamp_min(1e-30).rsqrt() * magnitude
            re, im = re * size, im * size
        found: tuple[Tensor, Tensor] = self.istft(re, im, lengths, length)
        return found

    def _phases(self, magnitude: Tensor) -> Tensor:
        """`(frames, bins)` in turns; more frames add to them without changing the first."""
        generator = torch.Generator().manual_seed(self.config.seed)
        count = magnitude.shape[-2:].numel()
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        return drawn.reshape(magnitude.shape[-2:]).to(magnitude)
