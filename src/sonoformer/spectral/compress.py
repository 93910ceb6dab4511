"""Energies -> levels: what is done to a filter bank's output before a model sees it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Compression = Literal["none", "log", "log10", "db", "root"]
_PER_DB = {"db": 1.0, "log10": 0.1, "log": 0.23025850929940458}
"""What a decibel of power is on each scale."""


def compressed(
    energy: Tensor,
    kind: Compression,
    *,
    floor: float,
    top_db: float | None = None,
    power: int = 2,
    frames: Tensor | None = None,
) -> Tensor:
    """Levels.

    Args:
        energy: `(…, frames, bins)`, at least 0: magnitudes or powers.
        kind: none; log, natural; log10; db, decibels above 1; root, the cube root.
        floor: least energy before a logarithm.
        top_db: how far below its loudest value a clip may reach; without limit if absent.
        power: 1 if the energies are magnitudes, 2 if they are powers.
        frames: `(…)` frames of each clip: the loudest value is sought among them only.
    """
    if kind == "none":
        return energy
    if kind == "root":
        return cube_root(energy)
    level = energy.clamp_min(floor)
    level = level.log() if kind == "log" else level.log10()
    if kind == "db":
        level = level * (20 / power)
    if top_db is None:
        return level
    # Magnitudes have half the logarithm of powers.
    span = top_db * _PER_DB[kind] * (1 if kind == "db" else power / 2)
    return torch.maximum(level, _loudest(level, frames) - span)


def expanded(level: Tensor, kind: Compression, power: int = 2) -> Tensor:
    """Energies again; what lay under the floor stays at it."""
    if kind == "none":
        return level
    if kind == "root":
        return level.pow(3)
    if kind == "log":
        return level.exp()
    return torch.pow(10.0, level * (power / 20) if kind == "db" else level)


def cube_root(energy: Tensor) -> Tensor:
    """Cube root whose gradient at 0 is 0 rather than infinite."""
    positive = energy > 0
    return torch.where(positive, torch.where(positive, energy, 1).pow(1 / 3), 0)


def _loudest(level: Tensor, frames: Tensor | None) -> Tensor:
    """`(…, 1, 1)`: of each clip."""
    if frames is not None:
        real = torch.arange(level.shape[-2], device=level.device) < frames[..., None]
        level = level.masked_fill(~real[..., None], -torch.inf)
    return level.amax((-2, -1), keepdim=True)
