"""The filterbank on a CPU without gradient: a block of frames at a time, in memory used again.

On a CPU most of a plain filterbank's time goes into fresh memory, strided passes over complex
numbers and a mel matrix that is nearly all zero. Here the buffers of a block stay in a core's
cache; real and imaginary parts are squared side by side where they lie, and added by the mel
product, whose rows are doubled and cut into bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sonoformer.spectral.buffers import reused
from sonoformer.spectral.mel import bands

_ROWS = 256
"""Most frames of a block."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the blocks of one filterbank share; all tensors float32 on the CPU.

    Attributes:
        window: `(length,)`.
        groups: filters of each band, what part of a frame's interleaved spectrum they read, and
            their weights `(2 bins, filters)`, each row twice.
        hop: samples from one frame to the next.
        n_fft: samples of a transform.
        n_mels: filters.
        preemphasis: coefficient of y[i] = x[i] - c x[i-1].
        floor: least energy before the logarithm.
    """

    window: Tensor
    groups: tuple[tuple[slice, slice, Tensor], ...]
    hop: int
    n_fft: int
    n_mels: int
    preemphasis: float
    floor: float

    @classmethod
    def of(
        cls, window: Tensor, filters: Tensor, hop: int, preemphasis: float, floor: float
    ) -> Plan:
        """From the float64 window `(length,)` and filters `(n_fft / 2, n_mels)`."""
        groups = tuple(
            (
                mels,
                slice(2 * bins.start, 2 * bins.stop),
                filters[bins, mels].repeat_interleave(2, 0).float().contiguous(),
            )
            for mels, bins in bands(filters)
        )
        n_fft, n_mels = 2 * filters.shape[0], filters.shape[1]
        return cls(window.float(), groups, hop, n_fft, n_mels, preemphasis, floor)


class _Buffers(NamedTuple):
    """A thread's memory for blocks of one shape, and the views that the steps work on."""

    padded: Tensor
    frames: Tensor
    spectrum: Tensor
    squares: Tensor
    energy: Tensor
    products: list[tuple[Tensor, Tensor, Tensor]]


def log_mels(wave: Tensor, plan: Plan, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """`(log energy - shift) * scale` of every frame.

    Args:
        wave: `(batch, samples)` float32 on the CPU, at least a window long.
        plan: the filterbank.
        shift: taken from each logarithm.
        scale: by which the rest is multiplied.

    Returns:
        `(batch, frames, n_mels)`.
    """
    count = 1 + (wave.shape[1] - len(plan.window)) // plan.hop
    out = torch.empty(len(wave), count, plan.n_mels)
    rows = -(-count // -(-count // _ROWS))
    buffers = reused(plan, rows, lambda rows: _allocate(plan, rows))
    # Blocks of one size: the last begins a little earlier rather than being shorter.
    starts = [min(first, count - rows) for first in range(0, count, rows)]
    for clip, target in zip(wave, out, strict=True):
        _clip(clip, target, plan, buffers, starts)
    if shift or scale != 1:
        out.sub_(shift).mul_(scale)
    return out


def _clip(clip: Tensor, target: Tensor, plan: Plan, buffers: _Buffers, starts: list[int]) -> None:
    """One clip. Inside a frame with mean m, x[i] - m - c (x[i-1] - m) = p[i] - (1 - c) m, where p
    is the pre-emphasised waveform; only a frame's first sample differs, as it has none before."""
    length, rest = len(plan.window), 1 - plan.preemphasis
    emphasised = torch.empty_like(clip)
    torch.sub(clip[1:], clip[:-1], alpha=plan.preemphasis, out=emphasised[1:])
    emphasised[0] = rest * clip[0]
    frames, smooth = clip.unfold(0, length, plan.hop), emphasised.unfold(0, length, plan.hop)
    offset = frames.mean(-1, keepdim=True).mul_(rest)
    first = frames[:, :1] * rest - offset if plan.window[0] else None
    rows = len(buffers.frames)
    for start in starts:
        stop = start + rows
        torch.sub(smooth[start:stop], offset[start:stop], out=buffers.frames)
        if first is not None:
            buffers.frames[:, :1] = first[start:stop]
        buffers.frames.mul_(plan.window)
        torch.fft.rfft(buffers.padded, out=buffers.spectrum)
        buffers.squares.square_()
        for squares, weights, energy in buffers.products:
            torch.mm(squares, weights, out=energy)
        torch.log(buffers.energy.clamp_min_(plan.floor), out=target[start:stop])


def _allocate(plan: Plan, rows: int) -> _Buffers:
    padded = torch.zeros(rows, plan.n_fft)
    spectrum = torch.empty(rows, plan.n_fft // 2 + 1, dtype=torch.complex64)
    squares = torch.view_as_real(spectrum).flatten(1)
    energy = torch.empty(rows, plan.n_mels)
    products = [
        (squares[:, pairs], weights, energy[:, mels]) for mels, pairs, weights in plan.groups
    ]
    frames = padded[:, : len(plan.window)]
    return _Buffers(padded, frames, spectrum, squares, energy, products)
