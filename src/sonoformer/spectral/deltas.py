"""Delta features: how coefficients change from frame to frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sonoformer.errors import UserError


def deltas(
    features: Tensor, frames: Tensor | None = None, *, width: int = 9, order: int = 1
) -> Tensor:
    """The derivative in time of the polynomial that fits the frames around best.

    For order 1 these are the deltas of HTK and Kaldi; for any order, librosa's with
    mode="nearest": a clip's own first and last frames stand for those before and after it.

    Args:
        features: `(…, frames, bins)`.
        frames: `(…)` frames of each clip; all of them if absent.
        width: frames that are fitted, odd, at least 3.
        order: of the derivative and of the polynomial: 1 is velocity, 2 acceleration.

    Returns:
        `(…, frames, bins)`, per frame to the power `order`.

    Raises:
        UserError: the width or order cannot be.
    """
    if width < 3 or width % 2 == 0:
        raise UserError(f"width: must be odd and at least 3; got {width}")
    if not 1 <= order < width:
        raise UserError(f"order: must lie within 1 to {width - 1}; got {order}")
    count, half = features.shape[-2], width // 2
    if count == 0:
        return features
    last = torch.full(features.shape[:-2], count, device=features.device)
    if frames is not None:
        last = frames.to(features.device, torch.long)
    place = torch.arange(count, device=features.device)
    weights = _slopes(width, order).tolist()
    total = torch.zeros_like(features)
    for offset, weight in zip(range(-half, half + 1), weights, strict=True):
        index = torch.minimum((place + offset).clamp_min(0), (last - 1).clamp_min(0)[..., None])
        total = total + weight * features.gather(-2, index[..., None].expand_as(features))
    return total


def _slopes(width: int, order: int) -> Tensor:
    """What each frame adds to the fitted polynomial's derivative at the middle one, float64
    (Savitzky and Golay 1964)."""
    place = torch.arange(width, dtype=torch.float64) - width // 2
    powers = place.unsqueeze(1) ** torch.arange(order + 1, dtype=torch.float64)
    return math.factorial(order) * torch.linalg.pinv(powers)[order]
