"""The constant-Q transform by fast Fourier transforms of whole clips, or of long blocks of them.

`differentiable` is one expression for any device; `blocked` computes the same on a CPU without
gradient, a few blocks at a time in memory that is used again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sonoformer.spectral.cqt_response import Blocks, Responses
from sonoformer.spectral.framing import PadMode
from sonoformer.spectral.padding import continued

_ROWS = 16
"""Most blocks that are transformed together."""
_SAMPLES = 2**20
"""Most samples that are transformed together."""
_PRODUCT = 2**17
"""Most products that are made before they are added up."""
_local = threading.local()


def differentiable(wave: Tensor, blocks: Blocks, tables: Responses) -> Tensor:
    """The transform of every block.

    Args:
        wave: `(batch, samples)`, continued on both sides so that the blocks cover it.
        blocks: how it is cut.
        tables: responses of wave's precision, on its device.

    Returns:
        `(batch, frames of all blocks, bins)` complex.
    """
    cut = wave.unfold(-1, blocks.span, blocks.step)
    rows = _rows(torch.fft.rfft(cut, n=blocks.size), blocks, tables)
    folded = [
        torch.einsum("bcrm,grm->bcgm", rows[:, :, group.rows], group.response)
        for group in tables.groups
    ]
    frames = torch.fft.ifft(torch.cat(folded, 2))[..., : blocks.frames]
    return frames.transpose(-1, -2).flatten(1, 2)


def _rows(spectrum: Tensor, blocks: Blocks, tables: Responses) -> Tensor:
    """`(batch, count, size / 2 + 1)` -> `(batch, count, rows, fold)`, continued below 0 and above
    half the sample rate, where a real signal's spectrum is mirrored."""
    low, high, half = tables.first * blocks.fold, tables.last * blocks.fold, blocks.size // 2
    parts = []
    if low < 0:
        mirrored = spectrum[..., 1 : 1 - low].conj().flip(-1)
        # Lower than half the sample rate there is no response.
        missing = -low - mirrored.shape[-1]
        parts += [mirrored.new_zeros(*mirrored.shape[:-1], missing), mirrored]
    parts.append(spectrum[..., :high])
    if high > half + 1:
        parts.append(spectrum[..., blocks.size - high + 1 : half].conj().flip(-1))
    return torch.cat(parts, -1).unflatten(-1, (-1, blocks.fold))


class Clips(NamedTuple):
    """Waveforms on the CPU that are continued while they are read.

    Attributes:
        wave: `(batch, samples)` float32.
        lengths: samples of each clip.
        before: samples wanted in front of each.
        mode: what the clips are continued with.
    """

    wave: Tensor
    lengths: list[int]
    before: int
    mode: PadMode

    def fill(self, clip: int, row: Tensor, start: int) -> None:
        """Write a clip from sample `start - before` on into a row."""
        start -= self.before
        length, stop = self.lengths[clip], start + len(row)
        wave = self.wave[clip, :length]
        low, high = max(start, 0), min(stop, length)
        if low < high:
            row[low - start : high - start] = wave[low:high]
        for low, high in ((start, min(stop, 0)), (max(start, length), stop)):
            if low < high:
                row[low - start : high - start] = self._outside(wave, low, high)

    def _outside(self, wave: Tensor, low: int, high: int) -> Tensor | float:
        length = len(wave)
        if self.mode == "zeros" or not length:
            return 0.0
        if self.mode == "reflect":
            if low < 0 and -low < length:
                return wave[1 - high : 1 - low].flip(0)
            if low >= length and high < 2 * length:
                return wave[2 * length - 1 - high : 2 * length - 1 - low].flip(0)
        return wave[continued(torch.arange(low, high), torch.tensor(length), self.mode)[0]]


class _Buffers(NamedTuple):
    """A thread's memory for blocks of one kind, and the views that the steps work on.

    Attributes:
        padded: `(rows, size)`, zero behind the span.
        spectrum: `(rows, size / 2 + 1)`.
        lines: `(rows, lines, fold)` of the spectrum that the tables need.
        steps: for some bins each what is multiplied, and where the sum goes.
        folded: `(rows, bins, fold)`.
        frames: its transform, and the planes of the frames that are wanted.
        squares: `(rows, bins, frames)`.
    """

    padded: Tensor
    spectrum: Tensor
    lines: Tensor
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]]
    folded: Tensor
    frames: Tensor
    planes: tuple[Tensor, Tensor]
    squares: Tensor


def blocked(clips: Clips, blocks: Blocks, tables: Responses, kind: str) -> tuple[Tensor, ...]:
    """The transform of every block, in float32 on the CPU.

    Args:
        clips: the waveforms.
        blocks: how each is cut.
        tables: responses, complex64 on the CPU.
        kind: `planes`, `power` or `magnitude`.

    Returns:
        `(batch, frames of all blocks, bins)`: the real and imaginary planes, or the one asked for.
    """
    total = len(clips.wave) * blocks.count
    bins = tables.groups[-1].bins.stop
    outputs = tuple(
        torch.empty(len(clips.wave), blocks.count * blocks.frames, bins)
        for _ in range(2 if kind == "planes" else 1)
    )
    if not total:
        return outputs
    most = max(2, min(_ROWS, _SAMPLES // blocks.size))
    rows = -(-total // -(-total // most))
    # A single transform takes several times as long as one of two: an idle row goes with it.
    buffers = _buffers(blocks, tables, max(2, rows))
    for first in range(0, total, rows):
        # Groups of one size: the last begins a little earlier rather than being smaller.
        _group(min(first, total - rows), rows, clips, blocks, tables, buffers, outputs, kind)
    return outputs


def _group(
    first: int,
    rows: int,
    clips: Clips,
    blocks: Blocks,
    tables: Responses,
    buffers: _Buffers,
    outputs: tuple[Tensor, ...],
    kind: str,
) -> None:
    places = [divmod(block, blocks.count) for block in range(first, first + rows)]
    for row, (clip, block) in zip(buffers.padded, places, strict=False):
        clips.fill(clip, row[: blocks.span], block * blocks.step)
    torch.fft.rfft(buffers.padded, out=buffers.spectrum)
    _lines(buffers, blocks, tables)
    for lines, response, product, folded in buffers.steps:
        torch.mul(lines, response, out=product)
        torch.sum(product, 2, out=folded)
    torch.fft.ifft(buffers.folded, out=buffers.frames)
    found: tuple[Tensor, ...] = buffers.planes
    if kind != "planes":
        real, imaginary = buffers.planes
        torch.mul(real, real, out=buffers.squares).addcmul_(imaginary, imaginary)
        found = (buffers.squares.sqrt_() if kind == "magnitude" else buffers.squares,)
    for plane, output in zip(found, outputs, strict=True):
        for row, (clip, block) in zip(plane, places, strict=False):
            output[clip, block * blocks.frames :][: blocks.frames] = row.T


def _lines(buffers: _Buffers, blocks: Blocks, tables: Responses) -> None:
    """As `_rows`, into the buffer."""
    low, high, half = tables.first * blocks.fold, tables.last * blocks.fold, blocks.size // 2
    lines, spectrum = buffers.lines.flatten(1), buffers.spectrum
    direct = min(high, half + 1)
    lines[:, -low : direct - low] = spectrum[:, :direct]
    if low < 0:
        mirrored = spectrum[:, 1 : 1 - low].conj().flip(-1)
        lines[:, -low - mirrored.shape[1] : -low] = mirrored
    if high > half + 1:
        lines[:, half + 1 - low :] = spectrum[:, blocks.size - high + 1 : half].conj().flip(-1)


def _buffers(blocks: Blocks, tables: Responses, rows: int) -> _Buffers:
    """This thread's buffers; made anew when the transform or the block's size changes."""
    key = (id(tables), blocks, rows)
    if getattr(_local, "key", None) != key:
        # Made in inference mode, they could not be written to outside it.
        with torch.inference_mode(False):
            _local.buffers = _allocate(blocks, tables, rows)
        # The tables are kept so that their id stays their own.
        _local.key, _local.tables = key, tables
    buffers: _Buffers = _local.buffers
    return buffers


def _portions(tables: Responses, width: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Neighbouring bins that are multiplied together, as many as a core's cache has room for."""
    for group in tables.groups:
        start, count = 0, len(group.touched)
        while start < count:
            stop = start + 1
            low, high = group.touched[start].start, group.touched[start].stop
            while stop < count:
                lower = min(low, group.touched[stop].start)
                higher = max(high, group.touched[stop].stop)
                if (higher - lower) * (stop + 1 - start) * width > _PRODUCT:
                    break
                low, high, stop = lower, higher, stop + 1
            bins = slice(group.bins.start + start, group.bins.start + stop)
            lines = slice(group.rows.start + low, group.rows.start + high)
            yield bins, lines, group.response[start:stop, low:high]
            start = stop


def _allocate(blocks: Blocks, tables: Responses, rows: int) -> _Buffers:
    fold, bins = blocks.fold, tables.groups[-1].bins.stop
    lines = torch.zeros(rows, tables.last - tables.first, fold, dtype=torch.complex64)
    folded = torch.empty(rows, bins, fold, dtype=torch.complex64)
    frames = torch.empty_like(folded)
    portions = list(_portions(tables, rows * fold))
    most = max(rows * response.numel() for _, _, response in portions)
    products = torch.empty(most, dtype=torch.complex64)
    steps = []
    for bins_, touched, response in portions:
        product = products[: rows * response.numel()].view(rows, *response.shape)
        steps.append((lines[:, touched].unsqueeze(1), response, product, folded[:, bins_]))
    planes = torch.view_as_real(frames)[..., : blocks.frames, :].unbind(-1)
    spectrum = torch.empty(rows, blocks.size // 2 + 1, dtype=torch.complex64)
    squares = torch.empty(rows, bins, blocks.frames)
    padded = torch.zeros(rows, blocks.size)
    return _Buffers(padded, spectrum, lines, steps, folded, frames, (planes[0], planes[1]), squares)
