"""Windows over recordings of any length, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from sonoformer.audio.decode import Channel, mono
from sonoformer.audio.probe import opened
from sonoformer.audio.resample import QUALITY, resampled_length
from sonoformer.errors import UserError

_BLOCK = 5.0
"""Seconds decoded at a time."""


@dataclass(frozen=True)
class Window:
    """A window of a recording.

    Attributes:
        index: its number; window i starts at `i * hop` seconds.
        start: seconds.
        end: seconds; `start` plus the window's length, also where the recording ends before.
        samples: float32 `(samples,)`, zero past the recording's end.
        valid: number of samples that are real.
    """

    index: int
    start: float
    end: float
    samples: np.ndarray
    valid: int


def stream(
    path: str | Path,
    sample_rate: int,
    *,
    window: float,
    hop: float,
    channel: Channel = "mix",
    first: int = 0,
) -> Iterator[Window]:
    """Windows of a recording at `sample_rate` Hz, until its end; the last ones are zero-padded.

    Memory holds one window and one block, whatever the length. With `first` the earlier windows are
    decoded and resampled but not given, which costs thousandths of real time and makes a resumed
    pass equal to a whole one bit for bit.

    Args:
        path: the recording.
        sample_rate: rate of the windows; the recording is resampled when it has another.
        window: seconds a window.
        hop: seconds between the starts of windows; may be above `window`.
        channel: which channel, or `mix`.
        first: number of the first window to give.

    Raises:
        AudioError: the file cannot be decoded (possibly after some windows were given).
        UserError: a window or hop of no length.
    """
    length, step = round(window * sample_rate), hop * sample_rate
    if length < 1 or step < 1:
        raise UserError(f"window {window} s, hop {hop} s: each must be at least one sample")
    index, kept, offset = first, np.zeros(0, np.float32), 0
    for samples in _resampled(path, sample_rate, channel):
        kept = np.concatenate([kept, samples])
        while offset + len(kept) >= (begin := round(index * step)) + length:
            yield _window(index, hop, window, kept[begin - offset :][:length], length)
            index += 1
        drop = min(len(kept), max(0, round(index * step) - offset))
        kept, offset = kept[drop:], offset + drop
    while (begin := round(index * step)) < offset + len(kept):
        yield _window(index, hop, window, kept[begin - offset :][:length], length)
        index += 1


def _window(index: int, hop: float, window: float, samples: np.ndarray, length: int) -> Window:
    padded = np.zeros(length, np.float32)
    padded[: len(samples)] = samples
    return Window(index, index * hop, index * hop + window, padded, len(samples))


def _resampled(path: str | Path, sample_rate: int, channel: Channel) -> Iterator[np.ndarray]:
    with opened(path) as file:
        rate = file.samplerate
        if rate == sample_rate:
            yield from _blocks(Path(path), file, channel)
            return
        resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality=QUALITY)
        fed = given = 0
        for block in _blocks(Path(path), file, channel):
            fed += len(block)
            out = resampler.resample_chunk(block)
            given += len(out)
            if len(out):
                yield out
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        yield rest[: max(0, resampled_length(fed, rate, sample_rate) - given)]


def _blocks(path: Path, file: soundfile.SoundFile, channel: Channel) -> Iterator[np.ndarray]:
    count, done = math.ceil(_BLOCK * file.samplerate), 0
    while len(data := file.read(count, dtype="float32", always_2d=True)):
        yield mono(path, data, channel, done / file.samplerate, file.samplerate)
        done += len(data)
