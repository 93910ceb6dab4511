"""Spectra again from filtered spectrograms: what Griffin-Lim needs to make them heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.compress import expanded
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.options import configured, refuse_outside, refuse_unknown
from sonoformer.spectral.tables import Tables

Method = Literal["nonnegative", "pseudo-inverse"]


@dataclass(frozen=True)
class InverseMelConfig:
    """How spectra are found."""

    method: Method = "nonnegative"
    """pseudo-inverse: the smallest solution, negative values set to 0; nonnegative: the spectrum
    without negative values whose filtered spectrum comes nearest, which fits better."""
    iterations: int = 64
    """Steps towards the nonnegative solution."""
    mel: MelConfig = field(default_factory=MelConfig)
    """The spectrograms."""

    def __post_init__(self) -> None:
        refuse_unknown(self, method=Method)
        refuse_outside(self, 1, 10**6, "iterations")
        if self.mel.trainable_filters != "none":
            raise UserError("mel.trainable_filters: only fixed filters can be inverted")


class InverseMel(Tables):
    """Spectrograms `(…, frames, n_mels)` -> spectra `(…, frames, bins)`; differentiable.

    Powers if the spectrograms are of powers, otherwise magnitudes.
    """

    filters: Tensor
    pseudo: Tensor

    def __init__(self, config: InverseMelConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(InverseMelConfig, config, options)
        weights = config.mel.filters.analytic_weights()
        # The largest curvature of the squared distance: steps of its inverse never overshoot.
        self._step = 1 / float(torch.linalg.matrix_norm(weights, 2).square())
        self._lay_tables()

    def forward(self, level: Tensor) -> Tensor:
        """Spectra.

        Args:
            level: `(…, frames, n_mels)`, compressed, shifted and scaled as the options say.
        """
        with torch.autocast(level.device.type, enabled=False):
            if level.dtype != torch.float64:
                level = level.float()
            mel = self.config.mel
            energy = expanded(level / mel.scale + mel.shift, mel.compression, mel.power)
            spectrum = (energy @ self.pseudo.to(level.dtype)).clamp_min(0)
            if self.config.method == "nonnegative":
                return self._nearest(energy, spectrum)
            return spectrum

    def magnitude(self, level: Tensor) -> Tensor:
        """As `forward`, magnitudes in any case: what Griffin-Lim takes."""
        spectrum = self(level)
        return spectrum if self.config.mel.power == 1 else spectrum.sqrt()

    def _nearest(self, energy: Tensor, spectrum: Tensor) -> Tensor:
        """Projected steps with Nesterov's momentum (Beck and Teboulle 2009)."""
        filters, ahead, t = self.filters.to(energy.dtype), spectrum, 1.0
        for _ in range(self.config.iterations):
            slope = (ahead @ filters - energy) @ filters.T
            found = (ahead - self._step * slope).clamp_min(0)
            after = (1 + (1 + 4 * t * t) ** 0.5) / 2
            ahead = found + (t - 1) / after * (found - spectrum)
            spectrum, t = found, after
        return spectrum

    def _tables(self) -> dict[str, Tensor]:
        weights = self.config.mel.filters.analytic_weights()
        return {"filters": weights, "pseudo": torch.linalg.pinv(weights)}
