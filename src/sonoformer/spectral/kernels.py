"""The Fourier transform as matrix products: where kernels are learnt, or there is no FFT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sonoformer.errors import UserError


def turns(n_fft: int) -> Tensor:
    """Cosine and minus sine over one turn: `(2, n_fft)` float64."""
    angle = 2 * math.pi * torch.arange(n_fft, dtype=torch.float64) / n_fft
    return torch.stack([angle.cos(), -angle.sin()])


def fourier(window: Tensor, frequencies: Tensor | None = None) -> Tensor:
    """Windowed cosines and minus sines, float64.

    Args:
        window: `(n_fft,)`.
        frequencies: `(bins,)` in cycles a sample; those of an FFT from 0 to 1/2 if absent.

    Returns:
        `(n_fft, 2 bins)`: a frame times this is the real, then the imaginary part.
    """
    n_fft = len(window)
    step = torch.arange(n_fft, device=window.device)
    if frequencies is None:
        # Products are taken modulo a turn as whole numbers: nothing is lost at high frequencies.
        place = (step.unsqueeze(1) * step[: n_fft // 2 + 1]) % n_fft
        cosine, sine = (table[place] for table in turns(n_fft).to(window.device))
    else:
        angle = 2 * math.pi * (step.unsqueeze(1) * frequencies.double()).frac()
        cosine, sine = angle.cos(), -angle.sin()
    return window.double().unsqueeze(1) * torch.cat([cosine, sine], 1)


def folded_tables(window: Tensor) -> tuple[Tensor, Tensor]:
    """Half the work for a window with `w[n] = w[n_fft - n]`: see `folded_planes`.

    Args:
        window: `(n_fft,)` float64.

    Returns:
        Windowed cosines `(n_fft / 2 + 1, bins)` and minus sines `(n_fft / 2 - 1, bins)`.

    Raises:
        UserError: the window is not symmetric.
    """
    if not torch.allclose(window[1:], window[1:].flip(0), rtol=0, atol=1e-12):
        raise UserError("backend: sym needs a window symmetric about the middle of the frame")
    half, bins, whole = len(window) // 2, len(window) // 2 + 1, fourier(window)
    return whole[: half + 1, :bins].contiguous(), whole[1:half, bins:].contiguous()


def folded_planes(frames: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts `(…, bins)` of frames `(…, n_fft)`.

    The real part needs only x[n] + x[n_fft - n], the imaginary part only x[n] - x[n_fft - n].
    """
    half = frames.shape[-1] // 2
    rising, falling = frames[..., 1:half], frames[..., half + 1 :].flip(-1)
    ends = frames[..., :1], frames[..., half : half + 1]
    folded = torch.cat([ends[0], rising + falling, ends[1]], -1)
    return folded @ even.to(frames.dtype), (rising - falling) @ odd.to(frames.dtype)


def inverse_fourier(window: Tensor) -> Tensor:
    """The inverse of a frame's spectrum, windowed: `(2 bins, n_fft)` float64.

    Real, then imaginary parts of bins 0 to n_fft / 2, times this, are a frame times the window.
    """
    n_fft = len(window)
    twice = torch.full((n_fft // 2 + 1,), 2.0, dtype=torch.float64, device=window.device)
    twice[0] = twice[-1] = 1
    scale = twice.repeat(2).unsqueeze(1) / n_fft
    return scale * fourier(torch.ones_like(window)).T * window.double()
