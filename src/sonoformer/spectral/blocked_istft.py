"""Waveforms from spectra on a CPU without gradient, a block of frames at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sonoformer.spectral.buffers import reused
from sonoformer.spectral.framing import Framing

_CELLS = 2**19
_ROWS = 512


@dataclass(frozen=True, eq=False)
class InversePlan:
    """What the blocks of one inverse share.

    Attributes:
        window: `(n_fft,)` float32 on the CPU.
        framing: where frames stand.
    """

    window: Tensor
    framing: Framing


class _Block(NamedTuple):
    """Memory for `rows` frames."""

    spectrum: Tensor
    frames: Tensor


def overlapped(re: Tensor, im: Tensor, counts: list[int], plan: InversePlan) -> Tensor:
    """Windowed frames, added where they overlap.

    Args:
        re: `(batch, frames, bins)` float32 on the CPU.
        im: the same.
        counts: frames of each clip, at most those that there are.
        plan: the inverse.

    Returns:
        `(batch, samples)`, at least to the end of the last frame.
    """
    n_fft, hop = plan.framing.n_fft, plan.framing.hop
    pieces, most = -(-n_fft // hop), re.shape[1]
    sound = torch.zeros(len(re), max(most, 1) + pieces - 1, hop)
    rows = max(1, min(_ROWS, _CELLS // n_fft, most))
    block = reused(plan, rows, lambda rows: _block(plan, rows))
    for clip, count in enumerate(counts):
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            size = part.stop - start
            spectrum, frames = block.spectrum[:size], block.frames[:size]
            torch.complex(re[clip, part], im[clip, part], out=spectrum)
            torch.fft.irfft(spectrum, n=n_fft, out=frames)
            frames.mul_(plan.window)
            for k in range(pieces):
                piece = frames[:, k * hop : (k + 1) * hop]
                sound[clip, start + k : start + k + size, : piece.shape[1]] += piece
    return sound.flatten(1)


def _block(plan: InversePlan, rows: int) -> _Block:
    n_fft = plan.framing.n_fft
    spectrum = torch.empty(rows, n_fft // 2 + 1, dtype=torch.complex64)
    return _Block(spectrum, torch.empty(rows, n_fft))
