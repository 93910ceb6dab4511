"""Where a data set's samples come from: a packed cache, or the files themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from sonoformer.audio import Channel, read

FULL_SCALE = 32768
"""The 16-bit sample that would stand for 1.0."""


class Stretch(NamedTuple):
    """A part of a recording that is one item.

    Attributes:
        path: the file.
        start: seconds.
        end: seconds.
        channel: which channel, or `mix`.
    """

    path: str
    start: float
    end: float
    channel: Channel = "mix"


class ClipSource(Protocol):
    """Items of sound at one sample rate, readable in parts."""

    sample_rate: int
    lengths: np.ndarray

    def __len__(self) -> int: ...

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """`count` samples of item `index` from sample `start`: int16, or float32 in [-1, 1].

        Raises:
            AudioError: the recording cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """The item's recording, for messages."""
        ...


class FileSource:
    """Stretches read straight from their files, decoded and resampled each time.

    Fast for WAV and FLAC, of which only the part that is asked for is decoded.

    Args:
        stretches: the items; each must end within its file.
        sample_rate: Hz of what `read` gives.
    """

    def __init__(self, stretches: Sequence[Stretch], sample_rate: int) -> None:
        self.stretches = [Stretch(*stretch) for stretch in stretches]
        self.sample_rate = sample_rate
        # Counted on the grid of samples, as `audio.read` does, so that every crop is whole.
        self._begins = [round(s.start * sample_rate) for s in self.stretches]
        ends = [round(s.end * sample_rate) for s in self.stretches]
        self.lengths = np.maximum(1, np.array(ends, np.int64) - np.array(self._begins, np.int64))

    def __len__(self) -> int:
        return len(self.stretches)

    def name(self, index: int) -> str:
        """The item's file."""
        return self.stretches[index].path

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`; float32, fewer samples where the file ends early."""
        item = self.stretches[index]
        begin = self._begins[index] + start
        end = min(begin + count, self._begins[index] + int(self.lengths[index]))
        times = {"start": begin / self.sample_rate, "end": end / self.sample_rate}
        return read(item.path, self.sample_rate, channel=item.channel, **times)[:count]
