"""The front end that an encoder owns: transform, normalisation, and what padding holds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.spectral.config import FbankConfig
from sonoformer.spectral.kaldi import KaldiFbank
from sonoformer.spectral.transforms import build_transform

_LEVEL = 0.05  # -26 dBFS


class FrontEnd(nn.Module):
    """Waveforms -> normalised spectrograms: (x - mean) / (2 std), as AST and SSAST do."""

    def __init__(self, config: FbankConfig = FbankConfig()) -> None:
        super().__init__()
        self.config = config
        # Made here also where a model is laid out without memory (torch's meta device).
        with torch.device("cpu"):
            self.transform = build_transform(config)

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""
        return self.config.frames(samples)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, samples)`, lengths in samples -> `(batch, frames, bins)`, lengths in frames.

        Frames past a clip's length hold `pad_value`. With `fixed_frames` every clip has that many:
        the first ones of longer clips, and padding that counts as sound behind shorter ones.
        """
        config = self.config
        if config.level == "equal":
            wave = equal_level(wave, lengths)
        if isinstance(self.transform, KaldiFbank):
            spec, frames = self.transform.scaled(wave, lengths, config.mean, 1 / (2 * config.std))
        else:
            levels, frames = self.transform(wave, lengths)
            spec = (levels - config.mean) / (2 * config.std)
        if config.fixed_frames is not None:
            return self._fixed(spec, frames, config.fixed_frames)
        if lengths is None:
            return spec, frames
        return self._padded(spec, frames), frames

    def _fixed(self, spec: Tensor, frames: Tensor, count: int) -> tuple[Tensor, Tensor]:
        spec = self._padded(spec[:, :count], frames)
        spec = F.pad(spec, (0, 0, 0, count - spec.shape[1]), value=self.pad_value)
        return spec, torch.full_like(frames, count)

    def _padded(self, spec: Tensor, frames: Tensor) -> Tensor:
        past = torch.arange(spec.shape[1], device=spec.device) >= frames.unsqueeze(1)
        # Looking at the mask costs a synchronisation on a device, and nothing on a CPU.
        if past.device.type != "cpu" or bool(past.any()):
            spec = spec.masked_fill(past.unsqueeze(-1), self.pad_value)
        return spec

    def raw(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward` before normalisation: what statistics are measured on."""
        if self.config.level == "equal":
            wave = equal_level(wave, lengths)
        levels, frames = self.transform(wave, lengths)
        return levels, frames

    @property
    def pad_value(self) -> float:
        """What a frame that is no sound holds after normalisation."""
        return 0.0 if self.config.padding == "mask" else self.raw_zero

    @property
    def raw_zero(self) -> float:
        """What a raw log-mel of 0.0 becomes: the authors' padding, and what they mask with."""
        return -self.config.mean / (2 * self.config.std)


def equal_level(wave: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Waveforms `(batch, samples)` scaled to a root mean square of 0.05 over each clip's length.

    Padding must be zero; digital silence stays as it is.
    """
    count = wave.shape[1] if lengths is None else lengths.to(wave.device).clamp_min(1).unsqueeze(1)
    power = wave.float().square().sum(1, keepdim=True) / count
    return torch.where(power > 0, wave * (_LEVEL * power.clamp_min(1e-20).rsqrt()), wave)
