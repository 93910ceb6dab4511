"""Spectrogram patches and their linear embedding: a strided convolution, written as a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_of(
    bins: int, frames: int, patch: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    """Counts of patches `(freq, time)` of a spectrogram; at least one in time."""
    freq = (bins - patch[0]) // stride[0] + 1
    time = (max(frames, patch[1]) - patch[1]) // stride[1] + 1
    return freq, time


def cut(spec: Tensor, patch: tuple[int, int], stride: tuple[int, int], fill: float = 0.0) -> Tensor:
    """Patches of a spectrogram, in the order of SSAST and AST.

    Args:
        spec: `(batch, frames, bins)`; padded to one patch when it is shorter.
        patch: bins and frames of a patch.
        stride: bins and frames between the starts of patches.
        fill: what that padding holds.

    Returns:
        `(batch, freq * time, pixels)`: token id `f * time + t`, frequency-major inside a patch.
    """
    short = patch[1] - spec.shape[1]
    if short > 0:
        spec = F.pad(spec, (0, 0, 0, short), value=fill)
    tiles = spec.transpose(1, 2).unfold(1, patch[0], stride[0]).unfold(2, patch[1], stride[1])
    batch, freq, time = tiles.shape[:3]
    return tiles.reshape(batch, freq * time, patch[0] * patch[1])


def valid_patches(
    lengths: Tensor, grid: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Bool `(batch, tokens)`: true where every frame of the patch is real.

    A clip shorter than a patch still has its first column, so that it has tokens at all.
    """
    starts = torch.arange(grid[1], device=lengths.device) * stride[1]
    columns = starts + patch[1] <= lengths.unsqueeze(1)
    columns[:, 0] = True
    return columns.unsqueeze(1).expand(-1, grid[0], -1).reshape(len(lengths), -1)


class Projection(nn.Module):
    """Pixels -> embeddings; the weight has a convolution's shape, as in published checkpoints.

    Args:
        dim: width of the embedding.
        patch: bins and frames of a patch.
    """

    def __init__(self, dim: int, patch: tuple[int, int]) -> None:
        super().__init__()
        # A convolution's own initialisation (Kaiming uniform), which SSAST keeps.
        layer = nn.Conv2d(1, dim, patch)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, pixels: Tensor) -> Tensor:
        """`(batch, tokens, pixels)` -> `(batch, tokens, dim)`."""
        return F.linear(pixels, self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Module):
    """The projection under the name that timm gives it, `patch_embed.proj`."""

    def __init__(self, dim: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.proj = Projection(dim, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """`(batch, tokens, pixels)` -> `(batch, tokens, dim)`."""
        return self.proj(pixels)
