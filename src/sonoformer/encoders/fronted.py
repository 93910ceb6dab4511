"""A front end, and the grid of tokens that lies over its spectrograms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.nn.patches import grid_of, valid_patches
from sonoformer.spectral import FrontEnd


class Fronted(nn.Module):
    """What every network that hears by a front end and answers on a grid has.

    Args:
        config: has `front`, and `patch` and `stride`: bins and frames of a token, and from one to
            the next.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front)

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        return int(self.config.front.rate)

    @property
    def seconds_per_token(self) -> float:
        """Time of a recording from one token to the next."""
        return float(self.config.stride[1] * self.config.front.step_ms / 1000)

    def front(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, samples)`, lengths in samples -> `(batch, frames, bins)`, lengths in frames."""
        return self.front_end(wave, lengths)

    def tokens_of(self, spec: Tensor, lengths: Tensor | None) -> tuple[tuple[int, int], Tensor]:
        """`(batch, frames, bins)`, lengths in frames -> grid `(freq, time)`, and bool
        `(batch, tokens)` true where a token is sound."""
        patch, stride = self.config.patch, self.config.stride
        grid = grid_of(spec.shape[2], spec.shape[1], patch, stride)
        if lengths is None:
            lengths = torch.full((len(spec),), max(spec.shape[1], patch[1]), device=spec.device)
        return grid, valid_patches(lengths.to(spec.device), grid, patch, stride)
