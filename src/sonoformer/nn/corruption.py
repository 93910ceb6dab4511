"""Spectrograms with parts of them overwritten (group masked model learning, ASiT section III)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.nn.rectangles import (
    FEW,
    MANY,
    Stretch,
    arrivals,
    as_pixels,
    cell_count,
    rectangle_noise,
    until,
    whole,
)

_NOISE_STD = 0.5  # the spread of a normalised spectrogram


@dataclass(frozen=True)
class AlienConfig:
    """Rectangles that hold another clip's sound of the same place."""

    probability: float = 0.5
    """Share of the clips that are corrupted this way."""
    area: float = 0.3
    """Share of such a clip that is overwritten."""
    partner: Literal["other", "any"] = "other"
    """Whose sound. other: of another clip of the batch; any: of any, itself among them, as the
    authors' program draws it."""

    def __post_init__(self) -> None:
        for name in ("probability", "area"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"alien.{name}: must be between 0 and 1; got {getattr(self, name)}")


@dataclass(frozen=True)
class CorruptionConfig:
    """What a student does not get to hear as it was."""

    area: tuple[float, float] = (0.5, 0.7)
    """Least and greatest share of a clip that is covered by rectangles."""
    align: int = 1
    """Frames and bins that corners and sides of rectangles are multiples of; 16 covers whole
    patches."""
    fill: Literal["zeros", "noise", "reference", "time", "frequency"] = "zeros"
    """What the rectangles hold. zeros: the mean of all sound; noise: as spread as sound;
    reference: the noise of the authors' program, which is 9 spreads off; time, frequency: zeros,
    and the rectangles reach over all bins, or over all frames."""
    alien: AlienConfig = AlienConfig()
    """Clips that are overwritten by others instead."""

    def __post_init__(self) -> None:
        if not 0 <= self.area[0] <= self.area[1] <= 1:
            raise UserError(f"area: must rise and lie within 0 and 1; got {self.area}")
        if self.align < 1:
            raise UserError(f"align: must be at least 1; got {self.align}")


class Corrupted(NamedTuple):
    """Spectrograms `(batch, frames, bins)`, and where they were overwritten, bool alike."""

    spec: Tensor
    mask: Tensor


def alien_noise() -> int:
    """Uniform numbers a clip that `overwrite` needs."""
    return 2 + rectangle_noise(FEW)


def corruption_noise(config: CorruptionConfig, shape: tuple[int, int]) -> int:
    """Uniform numbers a clip that `corrupt` needs for spectrograms of `(frames, bins)`."""
    pixels = shape[0] * shape[1] if config.fill in ("noise", "reference") else 0
    return alien_noise() + 1 + rectangle_noise(MANY) + pixels


def corrupt(
    clean: Tensor,
    frames: Tensor,
    noise: Tensor,
    config: CorruptionConfig,
    scale: tuple[float, float] = (0.0, _NOISE_STD),
) -> Corrupted:
    """Overwrite rectangles of each spectrogram.

    Args:
        clean: normalised, `(batch, frames, bins)`.
        frames: int64 `(batch,)`, real frames; only these are overwritten.
        noise: uniform in [0, 1), `(batch, at least corruption_noise(config, (frames, bins)))`.
        config: the options.
        scale: mean and spread of `reference` noise, those of raw log-mels.
    """
    shape, align = (clean.shape[1], clean.shape[2]), (config.align, config.align)
    sizes = [alien_noise(), 1, rectangle_noise(MANY)]
    for_aliens, share, corners, pixels = noise.split([*sizes, noise.shape[1] - sum(sizes)], 1)
    stretch: Stretch = config.fill if config.fill in ("time", "frequency") else "none"
    found = arrivals(corners, frames, shape, align, stretch)
    least, most = config.area
    area = (least + (most - least) * share[:, 0]) * cell_count(frames, shape, align)
    mask = as_pixels(until(found, area, MANY), frames, shape, align)
    held = _content(clean, pixels, config.fill, scale)
    own = Corrupted(torch.where(mask, held, clean), mask)
    alien, chosen = overwrite(clean, frames, for_aliens, config.alien, align)
    chosen = chosen.view(-1, 1, 1)
    return Corrupted(
        torch.where(chosen, alien.spec, own.spec), torch.where(chosen, alien.mask, own.mask)
    )


def overwrite(
    clean: Tensor, frames: Tensor, noise: Tensor, config: AlienConfig, align: tuple[int, int]
) -> tuple[Corrupted, Tensor]:
    """Every clip overwritten by another, and bool `(batch,)`, which of them are to be taken.

    Where the other clip is shorter, it goes round. A clip that is alone in its batch is not to be
    taken.

    Args:
        clean: normalised, `(batch, frames, bins)`.
        frames: int64 `(batch,)`, real frames.
        noise: uniform in [0, 1), `(batch, alien_noise())`.
        config: the options.
        align: frames and bins of a cell.
    """
    batch, shape = len(clean), (clean.shape[1], clean.shape[2])
    own = torch.arange(batch, device=clean.device)
    if config.partner == "any":
        partner = whole(noise[:, 1], batch)
    else:
        partner = (own + 1 + whole(noise[:, 1], max(1, batch - 1))) % batch
    found = arrivals(noise[:, 2:], frames, shape, align)
    cells = until(found, config.area * cell_count(frames, shape, align), FEW)
    mask = as_pixels(cells, frames, shape, align)
    place = torch.arange(shape[0], device=clean.device)
    place = place % frames[partner].clamp_min(1).unsqueeze(1)
    alien = torch.where(mask, clean[partner.unsqueeze(1), place], clean)
    chosen = (noise[:, 0] < config.probability) & (batch > 1)
    return Corrupted(alien, mask), chosen


def _content(clean: Tensor, pixels: Tensor, fill: str, scale: tuple[float, float]) -> Tensor:
    """What rectangles hold, broadcastable to `clean`."""
    if fill not in ("noise", "reference"):
        return clean.new_zeros(())
    u = pixels[:, : clean.shape[1] * clean.shape[2]].reshape(clean.shape).to(clean.dtype)
    edge = 1 - 2.0**-23
    gauss = torch.erfinv((2 * u - 1).clamp(-edge, edge)) * 2**0.5
    mean, std = scale if fill == "reference" else (0.0, _NOISE_STD)
    return mean + std * gauss
