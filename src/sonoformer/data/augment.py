"""Augmentation of the published recipes, as pure functions of keyed random numbers.

Mixup works on waveforms in the loader; masking, noise and rolling work on spectrograms on the
device. What they need at random comes with the batch (`Batch.draws`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sonoformer.errors import UserError

DRAWS = 8
"""Random numbers a clip that `augment_spectrogram` uses."""


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation while training; the defaults change nothing."""

    mixup: float = 0.0
    """Probability that a clip is mixed with another one of the data set; labels are mixed too."""
    mixup_alpha: float = 10.0
    """Both parameters of the Beta distribution of the mixing weight."""
    freq_mask: int = 0
    """Widest band masked, in bins (SpecAugment, one band a clip)."""
    time_mask: int = 0
    """Longest stretch masked, in frames (SpecAugment, one stretch a clip)."""
    mask_value: float = 0.0
    """What masked cells hold after normalisation; 0 is the mean. The authors' recipes mask with 0
    before normalisation, which is +0.467 for AudioSet's constants."""
    noise: bool = False
    """Add uniform noise of random strength up to 0.1 to the normalised spectrogram, and roll it in
    time by -10 to 9 frames (SSAST's ESC-50 and Speech Commands recipes)."""

    def __post_init__(self) -> None:
        if not 0 <= self.mixup <= 1:
            raise UserError(f"mixup: must be between 0 and 1; got {self.mixup}")
        if self.mixup_alpha <= 0:
            raise UserError(f"mixup_alpha: must be above 0; got {self.mixup_alpha}")
        if self.freq_mask < 0 or self.time_mask < 0:
            raise UserError("freq_mask and time_mask must not be negative")

    @property
    def on_spectrogram(self) -> bool:
        """Whether anything is done on the device."""
        return self.noise or self.freq_mask > 0 or self.time_mask > 0


def mix(one: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """`weight * one + (1 - weight) * other`, cut or padded to the first; float32 `(samples,)`."""
    mixed = one.astype(np.float32) * np.float32(weight)
    count = min(len(one), len(other))
    mixed[:count] += other[:count].astype(np.float32) * np.float32(1 - weight)
    return mixed


def augment_spectrogram(
    spec: Tensor, lengths: Tensor, draws: Tensor, config: AugmentConfig
) -> Tensor:
    """SpecAugment, then noise and rolling, in the order of the SSAST loader (section 3.2).

    Args:
        spec: normalised `(batch, frames, bins)`.
        lengths: `(batch,)` real frames; padding is neither masked nor filled.
        draws: `(batch, DRAWS)` uniform in [0, 1).
        config: what to do.

    Returns:
        A new tensor of the same shape.
    """
    frames = torch.arange(spec.shape[1], device=spec.device)
    bins = torch.arange(spec.shape[2], device=spec.device)
    real = frames < lengths.unsqueeze(1)
    size = lengths.to(spec.dtype).unsqueeze(1)
    if config.freq_mask:
        band = _span(draws[:, 0:1], draws[:, 1:2], config.freq_mask, float(spec.shape[2]), bins)
        spec = spec.masked_fill((band.unsqueeze(1) & real.unsqueeze(2)), config.mask_value)
    if config.time_mask:
        stretch = _span(draws[:, 2:3], draws[:, 3:4], config.time_mask, size, frames)
        spec = spec.masked_fill((stretch & real).unsqueeze(2), config.mask_value)
    if config.noise:
        noise = _hash_noise(draws[:, 4:5], spec) * (draws[:, 5] / 10)[:, None, None]
        spec = torch.where(real.unsqueeze(2), spec + noise, spec)
        shift = (draws[:, 6:7] * 20).floor() - 10
        source = torch.remainder(frames - shift, size.clamp_min(1)).long()
        source = torch.where(real, source, frames)
        spec = spec.gather(1, source.unsqueeze(2).expand_as(spec))
    return spec


def _span(width: Tensor, place: Tensor, widest: int, size: Tensor | float, cells: Tensor) -> Tensor:
    """Bool `(batch, cells)`: a stretch of width U[0, widest) at a uniform place inside `size`."""
    width = torch.minimum(width * widest, torch.as_tensor(size, dtype=width.dtype))
    start = (place * (size - width)).floor()
    return (cells >= start) & (cells < start + width.floor())


def _hash_noise(draw: Tensor, like: Tensor) -> Tensor:
    """Uniform noise of the shape of `like`, a pure function of one number a clip, on any device."""
    count = like.shape[1] * like.shape[2]
    phase = torch.arange(count, device=like.device, dtype=torch.int64)
    state = (draw.double() * 2**31).long() * 2654435761 + phase * 40503 + 1
    for shift, factor in ((16, 0x45D9F3B), (16, 0x45D9F3B)):
        state = ((state ^ (state >> shift)) * factor) & 0xFFFFFFFF
    state = state ^ (state >> 16)
    return (state & 0xFFFFFF).to(like.dtype).div(2**24).view(len(like), *like.shape[1:])
