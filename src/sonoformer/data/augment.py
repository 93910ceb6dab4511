"""Augmentation of the published recipes, as pure functions of keyed random numbers.

Mixup, rolling and gain work on waveforms in the loader; masking, noise and rolling by frames work
on spectrograms on the device. What they need at random comes with the batch (`Batch.draws`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    roll: bool = False
    """Turn each waveform round by any amount: what leaves at its end comes back at its start."""
    gain_db: float = 0.0
    """Largest change of a waveform's level, up or down, in dB."""
    freq_mask: int = 0
    """Widest band masked, in bins (SpecAugment, one band a clip)."""
    time_mask: int = 0
    """Longest stretch masked, in frames (SpecAugment, one stretch a clip)."""
    masks: Literal["inside", "reference"] = "inside"
    """inside: masks stay in the clip's own frames, hide at most half of them, and hold
    `mask_value`. reference: as in the authors' loader (torchaudio's law) on the whole padded
    spectrogram, without that limit, holding what a log-mel of 0 becomes, which is louder than the
    mean: +0.467 for AudioSet's constants."""
    mask_value: float = 0.0
    """masks inside: what masked cells hold after normalisation; 0 is the mean."""
    noise: bool = False
    """Add uniform noise of random strength up to 0.1 to the normalised spectrogram, and roll it in
    time by -10 to 9 frames (SSAST's ESC-50 and Speech Commands recipes). Padding takes part only
    where it counts as sound (`fixed_frames`)."""

    def __post_init__(self) -> None:
        if self.masks not in ("inside", "reference"):
            raise UserError(f"masks: must be inside or reference; got {self.masks!r}")
        if not 0 <= self.mixup <= 1:
            raise UserError(f"mixup: must be between 0 and 1; got {self.mixup}")
        if not self.mixup_alpha > 0:
            raise UserError(f"mixup_alpha: must be above 0; got {self.mixup_alpha}")
        for name in ("gain_db", "freq_mask", "time_mask"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}: must not be negative; got {getattr(self, name)}")

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.on_spectrogram or self.mixup > 0 or self.roll or self.gain_db > 0

    @property
    def on_spectrogram(self) -> bool:
        """Whether anything is done on the device."""
        return self.noise or self.freq_mask > 0 or self.time_mask > 0


def mix(one: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """`weight * one + (1 - weight) * other`, cut or padded to the first; float32 `(samples,)`.

    The authors' loader takes each clip's mean out before and after; the filterbank takes it out of
    every frame, so that changes only the rounding, and is left away.
    """
    mixed = one.astype(np.float32) * np.float32(weight)
    count = min(len(one), len(other))
    mixed[:count] += other[:count].astype(np.float32) * np.float32(1 - weight)
    return mixed


def roll(wave: np.ndarray, shift: int) -> np.ndarray:
    """`(samples,)` turned round by `shift` samples."""
    return np.roll(wave, shift)


def change_level(wave: np.ndarray, gain_db: float) -> np.ndarray:
    """Float `(samples,)` louder by `gain_db`; float samples are not clipped at full scale."""
    return wave * np.float32(10 ** (gain_db / 20))


def augment_spectrogram(
    spec: Tensor, lengths: Tensor, draws: Tensor, config: AugmentConfig, raw_zero: float = 0.0
) -> Tensor:
    """SpecAugment, then noise and rolling, in the order of the SSAST loader (section 3.2).

    Unlike in the authors' loader, which works on the padded spectrogram, all of it stays inside the
    clip: padding is neither masked, nor made noisy, nor rolled into the sound; and at most half of
    a clip's frames are masked, so that short clips do not disappear. Where clips have a fixed
    number of frames, padding counts as inside; with that and `masks` reference this is the authors'
    augmentation.

    Args:
        spec: normalised `(batch, frames, bins)`.
        lengths: `(batch,)` real frames.
        draws: `(batch, DRAWS)` uniform in [0, 1).
        config: what to do.
        raw_zero: what a log-mel of 0 becomes by normalisation, for `masks` reference.

    Returns:
        A new tensor of the same shape.
    """
    frames = torch.arange(spec.shape[1], device=spec.device)
    real = frames < lengths.unsqueeze(1)
    size = lengths.to(torch.float32).unsqueeze(1)
    if config.freq_mask or config.time_mask:
        masks = _reference_masks if config.masks == "reference" else _masks_inside
        value = raw_zero if config.masks == "reference" else config.mask_value
        spec = spec.masked_fill(masks(spec, real, draws, config), value)
    if config.noise:
        noise = _noise(draws[:, 4], spec.shape[1] * spec.shape[2]).view_as(spec)
        noise *= (draws[:, 5] / 10)[:, None, None] * real.unsqueeze(2)
        shift = (draws[:, 6:7] * 20).floor() - 10
        source = torch.remainder(frames - shift, size.clamp_min(1)).long()
        source = torch.where(real, source, frames)
        spec = (spec + noise).gather(1, source.unsqueeze(2).expand_as(spec))
    return spec


def _masks_inside(spec: Tensor, real: Tensor, draws: Tensor, config: AugmentConfig) -> Tensor:
    """Which cells are masked, bool `(batch, frames, bins)`, padding never.

    Widths are U[0, widest) and places uniform, as torchaudio draws them, only that its masks never
    reach the last cell.
    """
    size = real.sum(1, keepdim=True).to(torch.float32)
    height = torch.full_like(size, spec.shape[2])
    band = _span(draws[:, 0:2], height.clamp_max(config.freq_mask), height)
    stretch = _span(draws[:, 2:4], (size / 2).clamp_max(config.time_mask), size)
    return _cells(spec, band, stretch) & real.unsqueeze(2)


def _reference_masks(spec: Tensor, real: Tensor, draws: Tensor, config: AugmentConfig) -> Tensor:
    """As `_masks_inside`, by the law of torchaudio's FrequencyMasking and TimeMasking."""
    band = _torchaudio_span(draws[:, 0:2], config.freq_mask, spec.shape[2])
    stretch = _torchaudio_span(draws[:, 2:4], config.time_mask, spec.shape[1])
    return _cells(spec, band, stretch)


_Span = tuple[Tensor, Tensor]


def _span(draws: Tensor, widest: Tensor, size: Tensor) -> _Span:
    """Ends `(batch, 1)` of a stretch of width U[0, widest) at a uniform place inside `size`."""
    width = (draws[:, 0:1] * widest).floor()
    start = (draws[:, 1:2] * (size - width + 1)).floor()
    return start, start + width


def _torchaudio_span(draws: Tensor, widest: int, size: int) -> _Span:
    """Ends `(batch, 1)` as torchaudio draws them: the place from the width before rounding."""
    width = draws[:, 0:1] * widest
    start = (draws[:, 1:2] * (size - width)).trunc()
    return start, start + width.trunc()


def _cells(spec: Tensor, band: _Span, stretch: _Span) -> Tensor:
    """Bool `(batch, frames, bins)`: the cells of a band of bins and of a stretch of frames."""
    bins, frames = (torch.arange(spec.shape[axis], device=spec.device) for axis in (2, 1))
    inside = [(at >= a) & (at < b) for at, (a, b) in ((bins, band), (frames, stretch))]
    return inside[0].unsqueeze(1) | inside[1].unsqueeze(2)


def _noise(draw: Tensor, count: int) -> Tensor:
    """`(batch,)` one uniform number a clip -> `(batch, count)` of them, the same on any device.

    A hash of the cell's number (murmur3's finaliser), because a generator gives different numbers
    on different devices, and numbers made on the CPU would be twice the bytes of the clip itself.
    """
    seed = (draw * 2**24).to(torch.int32).unsqueeze(1)
    state = torch.arange(count, dtype=torch.int32, device=draw.device) * _signed(0x9E3779B1)
    state = state + seed * _signed(0x632BE5AB)
    spare = torch.empty_like(state)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        torch.bitwise_right_shift(state, shift, out=spare)
        state.bitwise_xor_(spare.bitwise_and_((1 << (32 - shift)) - 1)).mul_(_signed(factor))
    return state.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
