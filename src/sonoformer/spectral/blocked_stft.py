"""Spectra on a CPU without gradient: a block of frames at a time, in memory used again.

The plain expression goes over fresh memory and over complex numbers in strides; here a block's
frames and spectrum stay in a core's cache, and only what is asked for is written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sonoformer.spectral.buffers import reused
from sonoformer.spectral.framing import Framing
from sonoformer.spectral.mel import bands

_CELLS = 2**19
_ROWS = 512
"""A block has at most so many samples, and so many frames."""


class Band(NamedTuple):
    """Neighbouring filters, the bins that they read, and their weights `(bins, filters)`."""

    filters: slice
    bins: slice
    weights: Tensor


@dataclass(frozen=True, eq=False)
class StftPlan:
    """What the blocks of one transform share; tensors float32 on the CPU.

    Attributes:
        window: `(n_fft,)`.
        framing: where frames stand.
    """

    window: Tensor
    framing: Framing

    @property
    def bins(self) -> int:
        """Bins of a spectrum."""
        return self.framing.n_fft // 2 + 1


@dataclass(frozen=True, eq=False)
class FilterPlan:
    """Filters over the spectra of a `StftPlan`, cut into bands since most weights are zero.

    Attributes:
        stft: the spectra.
        power: 1 or 2: of the magnitudes that are filtered.
        bands: for power 2 each weight stands twice, for the squares of the real and the imaginary
            part side by side, which the product adds.
        filters: their number.
    """

    stft: StftPlan
    power: int
    bands: tuple[Band, ...]
    filters: int

    @classmethod
    def of(cls, stft: StftPlan, weights: Tensor, power: int) -> FilterPlan:
        """From float64 weights `(bins, filters)`."""
        cut = []
        for filters, bins in bands(weights):
            part = weights[bins, filters]
            if power == 2:
                bins = slice(2 * bins.start, 2 * bins.stop)
                part = part.repeat_interleave(2, 0)
            cut.append(Band(filters, bins, part.float().contiguous()))
        return cls(stft, power, tuple(cut), weights.shape[1])


class _Block(NamedTuple):
    """Memory for `rows` frames."""

    frames: Tensor
    spectrum: Tensor

    def first(self, rows: int) -> _Block:
        """The part for fewer frames."""
        return self if rows == len(self.frames) else _Block(*(part[:rows] for part in self))


class _Filtered(NamedTuple):
    """Memory for the filters' side of a block: what they read, and what they give."""

    inputs: Tensor
    outputs: Tensor


def spectra(wave: Tensor, lengths: Tensor | None, plan: StftPlan) -> Tensor:
    """Complex spectra `(batch, frames, bins)`; see `magnitudes`."""
    out = _empty(wave, plan, plan.bins, torch.complex64)
    for clip, start, block in _blocks(wave, lengths, plan, out):
        torch.fft.rfft(block.frames, out=out[clip, start : start + len(block.frames)])
    return out


def magnitudes(wave: Tensor, lengths: Tensor | None, plan: StftPlan, power: int) -> Tensor:
    """Magnitudes or their squares.

    Args:
        wave: `(batch, samples)` float32 on the CPU.
        lengths: `(batch,)` samples of each clip; all of them if absent.
        plan: the transform.
        power: 1 or 2.

    Returns:
        `(batch, frames, bins)`, zero past each clip's frames.
    """
    out = _empty(wave, plan, plan.bins, torch.float32)
    target = out.numpy()
    for clip, start, block in _blocks(wave, lengths, plan, out):
        torch.fft.rfft(block.frames, out=block.spectrum)
        part = target[clip, start : start + len(block.frames)]
        if power == 1:
            # numpy's passes over complex numbers are several times as fast as torch's.
            np.abs(block.spectrum.numpy(), out=part)
        else:
            squares = torch.view_as_real(block.spectrum).square_().numpy()
            np.add(squares[..., 0], squares[..., 1], out=part)
    return out


def filtered(wave: Tensor, lengths: Tensor | None, plan: FilterPlan) -> Tensor:
    """Filtered magnitudes or powers `(batch, frames, filters)`; see `magnitudes`."""
    stft = plan.stft
    out = _empty(wave, stft, plan.filters, torch.float32)
    memory = None
    for clip, start, block in _blocks(wave, lengths, stft, out):
        rows = len(block.frames)
        if memory is None or rows > len(memory.outputs):
            memory = reused(plan, rows, lambda rows: _filtered(plan, rows))
        torch.fft.rfft(block.frames, out=block.spectrum)
        if plan.power == 2:
            inputs = torch.view_as_real(block.spectrum).flatten(1).square_()
        else:
            inputs = memory.inputs[:rows]
            np.abs(block.spectrum.numpy(), out=inputs.numpy())
        energy = memory.outputs[:rows]
        for filters, bins, weights in plan.bands:
            torch.mm(inputs[:, bins], weights, out=energy[:, filters])
        out[clip, start : start + rows] = energy
    return out


def _filtered(plan: FilterPlan, rows: int) -> _Filtered:
    inputs = torch.empty(rows if plan.power == 1 else 0, plan.stft.bins)
    return _Filtered(inputs, torch.empty(rows, plan.filters))


def _empty(wave: Tensor, plan: StftPlan, width: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(len(wave), plan.framing.frames(wave.shape[1]), width, dtype=dtype)


def _blocks(
    wave: Tensor, lengths: Tensor | None, plan: StftPlan, out: Tensor
) -> Iterator[tuple[int, int, _Block]]:
    """Clip, first frame and windowed frames of every block; clears `out` past each clip's end."""
    framing, most = plan.framing, out.shape[1]
    n_fft, hop = framing.n_fft, framing.hop
    limit = max(1, min(_ROWS, _CELLS // n_fft))
    rows = -(-most // -(-most // limit))
    memory = reused(plan, rows, lambda rows: _block(plan, rows))
    padder = _Padder(wave, framing)
    counts = [most] * len(wave) if lengths is None else framing.frame_lengths(lengths).tolist()
    ends = [wave.shape[1]] * len(wave) if lengths is None else lengths.tolist()
    for clip, (count, end) in enumerate(zip(counts, ends, strict=True)):
        block = memory.first(min(rows, count))
        size = len(block.frames)
        frames = padder(clip, end).unfold(0, n_fft, hop)
        # Blocks of one size: the last begins a little earlier rather than being shorter.
        for first in range(0, count, size):
            start = min(first, count - size)
            torch.mul(frames[start : start + size], plan.window, out=block.frames)
            yield clip, start, block
        if count < most:
            out[clip, count:].zero_()


def _block(plan: StftPlan, rows: int) -> _Block:
    spectrum = torch.empty(rows, plan.bins, dtype=torch.complex64)
    return _Block(torch.empty(rows, plan.framing.n_fft), spectrum)


class _Padder:
    """Puts one clip after the other into the same memory, with what stands around it."""

    def __init__(self, wave: Tensor, framing: Framing) -> None:
        self._wave, self._framing = wave, framing
        room = max(framing.n_fft, wave.shape[1] + 2 * framing.pad)
        self._whole = torch.zeros(room, dtype=wave.dtype)

    def __call__(self, clip: int, end: int) -> Tensor:
        """`(samples,)`: clip number `clip`, which is `end` samples long."""
        whole, sound, pad = self._whole, self._wave[clip, :end], self._framing.pad
        whole[pad : pad + end] = sound
        before, after = whole[:pad], whole[pad + end :]
        if self._framing.pad_mode == "zeros" or pad == 0 or end == 0:
            before.zero_()
            after.zero_()
            return whole
        after = after[:pad]
        if self._framing.pad_mode == "replicate":
            before.copy_(sound[0])
            after.copy_(sound[-1])
        elif end > pad:
            before.copy_(sound[1 : pad + 1].flip(0))
            after.copy_(sound[-pad - 1 : -1].flip(0))
        else:
            steps, length = torch.arange(pad), torch.tensor(end)
            before.copy_(sound[self._framing.folded(steps - pad, length)])
            after.copy_(sound[self._framing.folded(steps + end, length)])
        return whole
