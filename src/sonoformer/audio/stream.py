"""Windows over recordings of any length, in constant memory.

The recording is decoded and resampled in sections of some ten seconds, each with a little sound
around it, laid from the file's beginning on. A sample depends on its section alone, not on where
reading began, so that a resumed pass sees what an uninterrupted one saw: bit for bit in WAV, FLAC,
AIFF and Vorbis, within 1e-6 of full scale in MP3 and Opus, whose decoders have a memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonoformer.audio.decode import Channel, Grid, decoded, warn_if_short
from sonoformer.audio.opening import opened
from sonoformer.audio.reader import Reader
from sonoformer.audio.resample import check_rate, resample
from sonoformer.errors import AudioError, UserError

_SECTION = 10  # seconds


@dataclass(frozen=True)
class Window:
    """One window of a recording."""

    index: int
    """windows are counted from 0; this one starts at `index * hop` seconds"""
    start: float
    """seconds"""
    end: float
    """seconds; `start + window`, which in the last one may be past the recording's end"""
    samples: np.ndarray
    """float32 `(round(window * sample_rate),)`, zero past the recording's end"""
    valid: int
    """how many of them are the recording's"""


def stream(
    path: str | Path,
    sample_rate: int,
    *,
    window: float,
    hop: float,
    channel: Channel = "mix",
    first: int = 0,
) -> Iterator[Window]:
    """Yield the windows of a recording until one reaches its end; that one is zero-padded.

    Memory is that of two sections and a window, however long the recording.

    Args:
        path: any file that `probe` accepts.
        sample_rate: Hz of the windows, whatever the file's own rate.
        window: seconds.
        hop: seconds from one start to the next; may be longer than `window`.
        channel: which one, or the mean of all.
        first: index of the first window wanted; the file is entered there, not read up to there.

    Raises:
        AudioError: the file cannot be read, has no such channel, or a sample is NaN or infinite;
            windows of the sections before the fault have been given by then.
        UserError: an option makes no sense for any file.
    """
    check_rate(sample_rate)
    length = _samples("window", window, sample_rate)
    _samples("hop", hop, sample_rate)
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise UserError(f"first: {first!r} is not a window number counted from 0")
    # Checked now, although nothing is opened before the first window is asked for.
    return _windows(path, sample_rate, window, hop, length, channel, first)


def _windows(
    path: str | Path,
    rate: int,
    window: float,
    hop: float,
    length: int,
    channel: Channel,
    first: int,
) -> Iterator[Window]:
    with opened(path) as file:
        sections = _Sections(file, path, rate, channel)
        at = round(first * hop * rate)
        buffer, begins = np.zeros(0, np.float32), sections.enter(at)
        index, more = first, True
        while True:
            at = round(index * hop * rate)
            # One sample beyond the window tells whether another window follows.
            while more and begins + len(buffer) <= at + length:
                # What lies before the window goes first, so that long hops stay cheap.
                drop = min(max(0, at - begins), len(buffer))
                section = sections.following()
                more = section is not None
                if section is not None:
                    buffer = np.concatenate([buffer[drop:], section])
                    begins += drop
            real = buffer[max(0, at - begins) : at - begins + length]
            before = round((index - 1) * hop * rate) + length
            if begins + len(buffer) <= (before if index else 0) or not len(real):
                if index == 0:
                    raise AudioError(path, "no sample of it can be decoded")
                return
            samples = np.zeros(length, np.float32)
            samples[: len(real)] = real
            yield Window(index, index * hop, index * hop + window, samples, len(real))
            index += 1


class _Sections:
    """Resampled sections of a file, one after the other."""

    def __init__(self, file: Reader, path: str | Path, rate: int, channel: Channel) -> None:
        self.file, self.path, self.channel = file, path, channel
        self.grid = Grid(file.samplerate, rate)
        # Borders lie where both rates have a sample.
        self.size = -(-_SECTION * file.samplerate // self.grid.step) * self.grid.step
        self.size_out = self.grid.shared(self.size)
        self.next = 0
        self.native = np.zeros(0, np.float32)  # decoded, from frame `begins` on
        self.begins = 0
        self.ended = False

    def enter(self, output: int) -> int:
        """Go to the section of sample `output` of the result; returns that section's first."""
        self.next = output // self.size_out
        self.begins = self.grid.before(self.next * self.size_out)
        return self.next * self.size_out

    def following(self) -> np.ndarray | None:
        """The next section, shorter at the recording's end, then None."""
        border = self.next * self.size_out
        begins = self.grid.before(border)
        kept = self.native[begins - self.begins :]
        have = begins + len(kept)
        if not self.ended:
            kept, have = self._decode(kept, have, (self.next + 1) * self.size + self.grid.context)
        self.native, self.begins = kept, begins
        if not len(kept):
            return None
        y = resample(kept, self.grid.rate_in, self.grid.rate_out)
        skip = border - self.grid.shared(begins)
        self.next += 1
        section = y[skip : skip + self.size_out]
        return section if len(section) else None

    def _decode(self, kept: np.ndarray, have: int, wanted: int) -> tuple[np.ndarray, int]:
        last = min(wanted, self.file.frames)
        if have < last:
            blocks = list(decoded(self.file, self.path, self.channel, have, last))
            kept = np.concatenate([kept, *blocks])
            have += sum(map(len, blocks))
            warn_if_short(self.path, self.file, have, last)
        self.ended = have < wanted
        return kept, have


def _samples(name: str, seconds: float, rate: int) -> int:
    if not seconds * rate >= 1 or seconds == float("inf"):
        raise UserError(f"{name}: {seconds} s is shorter than one sample at {rate} Hz")
    return round(seconds * rate)
