"""Windows by name, in float64."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sonoformer.errors import UserError

WindowName = Literal[
    "hann", "hamming", "blackman", "blackmanharris", "cosine", "bartlett", "povey", "rectangular"
]

_COSINES = {
    "rectangular": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
}
"""Coefficients of 1, -cos x, cos 2x, -cos 3x."""


def window(name: WindowName, length: int, *, periodic: bool = True) -> Tensor:
    """`(length,)` float64.

    Args:
        name: povey is hann to the power 0.85 (Kaldi's); cosine is half a sine wave.
        length: samples.
        periodic: as spectra want it: one period of a sequence, whose next sample would be the
            first again; otherwise symmetric, as Kaldi and filter design have it.

    Raises:
        UserError: no window has this name.
    """
    if length == 1:
        return torch.ones(1, dtype=torch.float64)
    step = torch.arange(length, dtype=torch.float64)
    span = length if periodic else length - 1
    if name == "povey":
        return window("hann", length, periodic=periodic).pow(0.85)
    if name == "cosine":
        return (math.pi * (step + 0.5) / (span + 1 if periodic else length)).sin()
    if name == "bartlett":
        return 1 - (2 * step / span - 1).abs()
    if name not in _COSINES:
        known = ", ".join([*_COSINES, "cosine", "bartlett", "povey"])
        raise UserError(f"window: must be one of {known}; got {name!r}")
    turn = 2 * math.pi * step / span
    terms = [(-1) ** k * a * (k * turn).cos() for k, a in enumerate(_COSINES[name])]
    # Rounding may leave -1e-17 where a window begins at 0.
    return torch.stack(terms).sum(0).clamp_min(0)


def centred(window: Tensor, n_fft: int) -> Tensor:
    """A window `(length,)` in the middle of `(n_fft,)` zeros, as librosa and torch have it."""
    left = (n_fft - len(window)) // 2
    return F.pad(window, (left, n_fft - len(window) - left))
