"""What masked prediction aims at, brought to one scale; all in fp32 and without gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def per_patch(pixels: Tensor, eps: float = 1e-6) -> Tensor:
    """Each patch with mean 0 and variance 1 (He et al. 2022, section 4.1).

    A patch of digital silence, which has no variance, becomes zeros.

    Args:
        pixels: `(batch, n, pixels)`.
        eps: added to the variance.
    """
    pixels = pixels.float()
    variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
    return (pixels - mean) * torch.rsqrt(variance + eps)


@torch.no_grad()
def mean_of_layers(layers: Sequence[Tensor], valid: Tensor, prefix: int) -> Tensor:
    """Mean of block outputs, each normalised over the clip's tokens, then normalised by token.

    As in data2vec (Baevski et al. 2022, section 3.4) and EAT (Chen et al. 2024, section 3.2):
    instance normalisation for each block, mean, layer normalisation; without learned scales.

    Args:
        layers: outputs of blocks, each `(batch, prefix + tokens, dim)`.
        valid: bool `(batch, tokens)`; the rest is left out of the statistics.
        prefix: prefix tokens, which are cut off.

    Returns:
        `(batch, tokens, dim)`.
    """
    weight = valid.unsqueeze(-1).float()
    count = weight.sum(1, keepdim=True).clamp_min(1)
    total: Tensor | None = None
    for layer in layers:
        x = layer[:, prefix:].float()
        mean = (x * weight).sum(1, keepdim=True) / count
        variance = ((x - mean).square() * weight).sum(1, keepdim=True) / count
        x = (x - mean) * torch.rsqrt(variance + 1e-5)
        total = x if total is None else total + x
    if total is None:
        raise ValueError("no layers")
    return F.layer_norm(total / len(layers), total.shape[-1:])
