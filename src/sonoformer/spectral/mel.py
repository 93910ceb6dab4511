"""Kaldi's mel filters and windows."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Window = Literal["hann", "hamming", "povey"]


def mel_filters(sample_rate: int, n_fft: int, n_mels: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangles linear in mel = 1127 ln(1 + f / 700), without area norm, float64.

    Returns:
        `(n_fft / 2, n_mels)`. The bin at half the sample rate has no weight, as in Kaldi, and is
        left out. A filter that falls between two bins is all zero.
    """
    hertz = torch.arange(n_fft // 2, dtype=torch.float64) * sample_rate / n_fft
    low, high = (1127 * math.log1p(edge / 700) for edge in (low_hz, high_hz))
    step = (high - low) / (n_mels + 1)
    edges = low + step * torch.arange(n_mels + 2, dtype=torch.float64)
    mel = 1127 * torch.log1p(hertz / 700).unsqueeze(1)
    rise = (mel - edges[:-2]) / step
    fall = (edges[2:] - mel) / step
    return torch.minimum(rise, fall).clamp_min(0)


def bands(filters: Tensor, size: int = 16) -> list[tuple[slice, slice]]:
    """Groups of neighbouring filters and the bins they touch: most of the matrix is zero.

    Args:
        filters: `(bins, n_mels)`.
        size: filters a group.

    Returns:
        Slices of filters and of bins; each group has at least one bin.
    """
    found = []
    for first in range(0, filters.shape[1], size):
        mels = slice(first, min(first + size, filters.shape[1]))
        touched = filters[:, mels].any(1).nonzero().flatten().tolist()
        found.append((mels, slice(touched[0], touched[-1] + 1) if touched else slice(0, 1)))
    return found


def symmetric_window(name: Window, length: int) -> Tensor:
    """`(length,)` float64, symmetric (not periodic); povey is hann to the power 0.85."""
    if name == "hamming":
        return torch.hamming_window(length, periodic=False, dtype=torch.float64)
    window = torch.hann_window(length, periodic=False, dtype=torch.float64)
    return window.pow(0.85) if name == "povey" else window
