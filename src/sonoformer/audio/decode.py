"""Sound files to float32 mono, whole or in slices.

A slice decodes its own stretch and a little around it, and is what cutting the whole file's
samples gives, within 1e-6 of full scale. Times are counted on the grid of the rate asked for: a
slice from `start` to `end` holds samples `round(start * rate)` up to `round(end * rate)`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from sonoformer.audio.opening import opened
from sonoformer.audio.reader import Reader
from sonoformer.audio.resample import CONTEXT, check_rate, resample
from sonoformer.errors import AudioError, UserError

Channel = int | Literal["mix"]
"""One channel, counted from 0, or the mean of all."""

_BLOCK = 1 << 18  # values decoded at a time: a long file of many channels is mixed as it comes


_MP3_PADDING = 0.15  # seconds


class TruncatedWarning(UserWarning):
    """A file ends, or is damaged, before the end that its header gives; the rest was used."""


def read(
    path: str | Path,
    sample_rate: int,
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: Channel = "mix",
) -> np.ndarray:
    """Decode a file, or a stretch of it, to mono at `sample_rate`.

    A slice of WAV, AIFF, FLAC or Vorbis costs about as much wherever it lies; MP3 and Opus are
    searched from their beginning (MP3: some 0.2 s for an hour). Whole recordings of hours belong to
    `stream`. A file that is cut or damaged is read up to there, with a `TruncatedWarning`.

    Args:
        path: any file that `probe` accepts.
        sample_rate: Hz of the result, whatever the file's own rate.
        start: seconds.
        end: seconds; None or a time past the end means the end.
        channel: which one, or their mean.

    Returns:
        float32 `(samples,)`, full scale at 1; floating-point files may pass it.

    Raises:
        AudioError: the file cannot be read, the stretch or channel is not in it, or it holds NaN
            or infinity.
        UserError: the rate or the channel makes no sense for any file.
    """
    check_rate(sample_rate)
    with opened(path) as file:
        grid = Grid(file.samplerate, sample_rate)
        k0, k1 = _span(path, start, end, sample_rate, file.frames / file.samplerate)
        # Start on a frame that both grids share, so that the resampler meets the same phases.
        first = grid.before(k0)
        last = file.frames if k1 is None else min(file.frames, grid.after(k1))
        x = np.concatenate(list(decoded(file, path, channel, first, last)))
        ends = warn_if_short(path, file, first + len(x), last)
    y = resample(x, grid.rate_in, grid.rate_out)
    shift = grid.shared(first)
    y = y[k0 - shift : None if k1 is None else k1 - shift]
    if not len(y):
        raise AudioError(path, _past_the_end(start, ends))
    return y


def read_native(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: Channel = "mix",
) -> tuple[np.ndarray, int]:
    """Like `read`, at the file's own rate, which comes second."""
    with opened(path) as file:
        rate = file.samplerate
        k0, k1 = _span(path, start, end, rate, file.frames / rate)
        last = file.frames if k1 is None else min(file.frames, k1)
        x = np.concatenate(list(decoded(file, path, channel, k0, last)))
        ends = warn_if_short(path, file, k0 + len(x), last)
    if not len(x):
        raise AudioError(path, _past_the_end(start, ends))
    return x, rate


class Grid:
    """Two sample rates on one time axis: every `step` input samples one falls on an output one."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self.rate_in, self.rate_out = rate_in, rate_out
        common = math.gcd(rate_in, rate_out)
        self.step, self.step_out = rate_in // common, rate_out // common
        lower = min(rate_in, rate_out)
        self.context = 0 if rate_in == rate_out else -(-CONTEXT * rate_in // lower)

    def before(self, output: int) -> int:
        """The shared input sample from which decoding yields output sample `output` rightly."""
        steps = output // self.step_out - -(-self.context // self.step)
        return max(0, steps) * self.step

    def after(self, output: int) -> int:
        """The input sample up to which output samples before `output` depend on the input."""
        return -(-output * self.step // self.step_out) + self.context

    def shared(self, frame: int) -> int:
        """The output sample at a shared input sample."""
        return frame // self.step * self.step_out


def decoded(
    file: Reader, path: str | Path, channel: Channel, first: int, last: int
) -> Iterator[np.ndarray]:
    """Mono float32 blocks of frames `first` to `last`, or to where the sound really ends.

    The first block always comes, and may be empty.

    Raises:
        AudioError: the channel is not there, or a sample is NaN or infinite.
    """
    check_channel(path, file.channels, channel)
    step = max(1, _BLOCK // file.channels)
    position = first
    ended = not file.enter(first)
    while not ended and position < last:
        try:
            frames = file.take(min(step, last - position))
        except soundfile.LibsndfileError:
            # A cut or damaged stretch: go up to it in ever smaller steps and call it the end.
            step //= 2
            ended = step < 1 or not file.enter(position)
            continue
        if not len(frames):
            break
        mono = _mono(frames, channel)
        _check_finite(path, mono, position, file.samplerate)
        position += len(frames)
        yield mono
    if position == first:
        yield np.zeros(0, np.float32)


def check_channel(path: str | Path, channels: int, channel: Channel) -> None:
    """Refuse a channel that the file has not, or that no file could have.

    Raises:
        AudioError: the file has too few channels.
        UserError: neither a number from 0 nor "mix".
    """
    if channel == "mix":
        return
    if isinstance(channel, bool) or not isinstance(channel, int) or channel < 0:
        raise UserError(f"channel: {channel!r} is neither 'mix' nor a number counted from 0")
    if channel >= channels:
        has = "1 channel (0)" if channels == 1 else f"{channels} channels (0 to {channels - 1})"
        raise AudioError(path, f"has {has}; there is no channel {channel}")


def warn_if_short(path: str | Path, file: Reader, reached: int, wanted: int) -> float:
    """Warn when decoding stopped before `wanted`; returns the second at which the sound ends."""
    ends = reached / file.samplerate
    # An MP3's header counts whole frames, of which its encoder's delay and padding are no sound.
    slack = round(_MP3_PADDING * file.samplerate) if file.format == "MP3" else 0
    if reached + slack < wanted:
        warnings.warn(
            f"{path}: the sound ends or is damaged at {ends:.3f} s, before the end its header "
            f"gives ({file.frames / file.samplerate:.3f} s); the part before is used",
            TruncatedWarning,
            stacklevel=3,
        )
        return ends
    return file.frames / file.samplerate


def _span(
    path: str | Path, start: float, end: float | None, rate: int, duration: float
) -> tuple[int, int | None]:
    if not (math.isfinite(start) and start >= 0):
        raise AudioError(path, f"a stretch cannot start at {start} s; count from 0")
    if end is not None and not end > start:
        raise AudioError(path, f"a stretch cannot end at {end} s when it starts at {start} s")
    if start >= duration:
        raise AudioError(path, _past_the_end(start, duration))
    first = round(start * rate)
    if end is None or end >= duration:
        return first, None
    return first, max(first + 1, round(end * rate))


def _past_the_end(start: float, ends: float) -> str:
    return f"ends at {ends:.3f} s; there is no sound from {start:.3f} s on"


def _mono(frames: np.ndarray, channel: Channel) -> np.ndarray:
    """`(frames, channels)` to `(frames,)`."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    if channel != "mix":
        return frames[:, channel].copy()
    total = frames[:, 0] + frames[:, 1]  # column by column: several times faster than mean(axis=1)
    for other in range(2, frames.shape[1]):
        total += frames[:, other]
    total *= np.float32(1 / frames.shape[1])
    return total


def _check_finite(path: str | Path, mono: np.ndarray, position: int, rate: int) -> None:
    finite = np.isfinite(mono)
    if not finite.all():
        second = (position + int(finite.argmin())) / rate
        raise AudioError(path, f"holds NaN or infinity, first at {second:.3f} s")
