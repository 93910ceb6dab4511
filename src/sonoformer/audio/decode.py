"""Files -> waveforms: whole or a slice, mono, at the rate that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from sonoformer.audio.probe import opened
from sonoformer.audio.resample import CONTEXT, fit_length, resample, resampled_length
from sonoformer.errors import AudioError, UserError

Channel = int | Literal["mix"]
"""A channel counted from 0, or the mean of all channels."""

# Decoders of these seek to other places than they say (bit reservoirs, inexact tables).
_DECODE_FROM_START = ("MP3",)


def read(
    path: str | Path,
    sample_rate: int,
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: Channel = "mix",
) -> np.ndarray:
    """A stretch of a recording as mono float32 `(samples,)` at `sample_rate` Hz.

    A slice equals the same stretch of the whole file within 1e-4 of full scale: the resampler is
    given sound beyond both ends.

    Args:
        path: the recording.
        sample_rate: rate of the result; the file is resampled when it has another.
        start: seconds from the beginning.
        end: seconds; the end of the file when absent or beyond it.
        channel: which channel, or `mix`.

    Raises:
        AudioError: the file cannot be decoded, the stretch lies outside it, the channel does not
            exist, or a sample is not a finite number.
        UserError: `start` or `end` make no stretch.
    """
    if start < 0 or (end is not None and end <= start):
        raise UserError(f"{path}: start {start} s and end {end} s make no stretch of sound")
    with opened(path) as file:
        rate = file.samplerate
        margin = 0.0 if rate == sample_rate else CONTEXT
        first = round(max(0.0, start - margin) * rate)
        stop = None if end is None else round((end + margin) * rate)
        native = _mono(Path(path), file, first, stop, channel)
        total = file.frames
    begin = round(start * sample_rate) if rate != sample_rate else round(start * rate)
    if rate == sample_rate:
        return native
    result = resample(native, rate, sample_rate)
    skip = begin - round(first * sample_rate / rate)
    last = resampled_length(total, rate, sample_rate)
    if end is not None:
        last = min(last, round(end * sample_rate))
    wanted = max(1, last - begin)
    return fit_length(result[skip:], min(wanted, max(1, len(result) - skip)))


def read_native(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: Channel = "mix",
) -> tuple[np.ndarray, int]:
    """As `read`, at the file's own rate: mono float32 `(samples,)`, and that rate in Hz."""
    with opened(path) as file:
        rate = file.samplerate
        stop = None if end is None else round(end * rate)
        return _mono(Path(path), file, round(start * rate), stop, channel), rate


def _mono(
    path: Path, file: soundfile.SoundFile, first: int, stop: int | None, channel: Channel
) -> np.ndarray:
    if first >= file.frames:
        seconds = file.frames / file.samplerate
        raise AudioError(path, f"ends at {seconds:.3f} s, before {first / file.samplerate:.3f} s")
    count = -1 if stop is None else max(1, min(stop, file.frames) - first)
    skip = 0
    if first:
        if file.format in _DECODE_FROM_START:
            skip, count = first, -1 if count < 0 else first + count
        else:
            file.seek(first)
    data = file.read(count, dtype="float32", always_2d=True)[skip:]
    if not len(data):
        raise AudioError(path, "is cut short: its header promises more sound than it holds")
    return mono(path, data, channel, first / file.samplerate, file.samplerate)


def mono(path: Path, data: np.ndarray, channel: Channel, start: float, rate: int) -> np.ndarray:
    """`(frames, channels)` -> the channel asked for, `(frames,)`, checked to be finite.

    `start` (seconds) and `rate` are for the message about a sample that is not a number.
    """
    channels = data.shape[1]
    if channel == "mix":
        samples = data[:, 0] if channels == 1 else data.mean(1, dtype=np.float32)
    elif 0 <= channel < channels:
        samples = data[:, channel]
    else:
        raise AudioError(path, f"has no channel {channel}; its channels are 0 to {channels - 1}")
    # One pass in the usual case: a sum is finite unless a sample is not.
    if not np.isfinite(samples.sum(dtype=np.float64)):
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(path, f"holds a sample that is not a number at {start + bad / rate:.3f} s")
    return np.ascontiguousarray(samples)
