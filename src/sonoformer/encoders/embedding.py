"""One vector a window, of a waveform or of a recording of any length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from sonoformer.audio import stream
from sonoformer.errors import UserError
from sonoformer.nn.tokens import Encoder, Pooling

_BATCH = 8


@torch.inference_mode()
def embed(
    encoder: Encoder,
    audio: Tensor | str | Path,
    window: float = 10.0,
    hop: float | None = None,
    pool: Pooling = "mean",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Pooled tokens of consecutive windows.

    Args:
        encoder: the encoder, in eval mode on `device`.
        audio: a recording's path, or a waveform `(samples,)` at the encoder's sample rate.
        window: seconds a window.
        hop: seconds between windows; `window` by default.
        pool: mean of the tokens made of real sound, or mean of the prefix tokens.
        device: where the encoder is.

    Returns:
        `(windows, dim)` float32 on the CPU.

    Raises:
        UserError: a waveform of another shape, or windows of no length.
        AudioError: the recording cannot be read.
    """
    step = window if hop is None else hop
    if window <= 0 or step <= 0:
        raise UserError(f"window {window} s, hop {step} s: both must be above 0")
    pieces = []
    for wave, lengths in _batches(audio, encoder.sample_rate, window, step):
        tokens = encoder(wave.to(device), lengths.to(device))
        pieces.append(tokens.pool(pool).float().cpu())
    return torch.cat(pieces)


def _batches(
    audio: Tensor | str | Path, rate: int, window: float, hop: float
) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(audio, Tensor):
        source: Iterator[tuple[Tensor, int]] = _cut(audio, rate, window, hop)
    else:
        windows = stream(audio, rate, window=window, hop=hop)
        source = ((torch.from_numpy(w.samples), w.valid) for w in windows)
    batch: list[tuple[Tensor, int]] = []
    for item in source:
        batch.append(item)
        if len(batch) == _BATCH:
            yield torch.stack([w for w, _ in batch]), torch.tensor([n for _, n in batch])
            batch = []
    if batch:
        yield torch.stack([w for w, _ in batch]), torch.tensor([n for _, n in batch])


def _cut(wave: Tensor, rate: int, window: float, hop: float) -> Iterator[tuple[Tensor, int]]:
    if wave.ndim != 1 or not len(wave):
        raise UserError(f"a waveform to embed should be (samples,); got {tuple(wave.shape)}")
    length = max(1, round(window * rate))
    for start in range(0, len(wave), max(1, round(hop * rate))):
        piece = wave[start : start + length].float()
        yield torch.nn.functional.pad(piece, (0, length - len(piece))), len(piece)
