"""The front end that an encoder owns: filterbank, normalisation, and what padding holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sonoformer.spectral.kaldi import FbankConfig, KaldiFbank


class FrontEnd(nn.Module):
    """Waveforms -> normalised log-mel spectrograms: (x - mean) / (2 std), as AST and SSAST do."""

    def __init__(self, config: FbankConfig = FbankConfig()) -> None:
        super().__init__()
        self.config = config
        self.fbank = KaldiFbank(config)

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""
        return self.config.frames(samples)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, samples)`, lengths in samples -> `(batch, frames, bins)`, lengths in frames.

        Frames past a clip's length hold `pad_value`.
        """
        spec, frames = self.fbank(wave, lengths)
        scale = 1 / (2 * self.config.std)
        if spec.requires_grad:
            spec = (spec - self.config.mean) * scale
        else:
            spec = spec.sub_(self.config.mean).mul_(scale)
        if lengths is not None:
            past = torch.arange(spec.shape[1], device=spec.device) >= frames.unsqueeze(1)
            spec = spec.masked_fill(past.unsqueeze(-1), self.pad_value)
        return spec, frames

    @property
    def pad_value(self) -> float:
        """What a frame that is no sound holds after normalisation."""
        config = self.config
        return 0.0 if config.padding == "mask" else -config.mean / (2 * config.std)
