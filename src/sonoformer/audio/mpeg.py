"""The true length of MP3 files that do not state it.

Encoders write the number of frames into a first, silent frame (Xing, Info or VBRI). Streams that
were captured or cut have none; decoders then guess the length from the first bit rate, and
libsndfile reads no further than the guess: of a file whose rate falls later most would be lost.
Here the frames are counted, and such a file is handed on with the missing frame put before it.
Frame header: ISO/IEC 11172-3, 2.4.1.3; only Layer III, the coding of MP3.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

_KBITS = {  # by MPEG version: 1, else 2 or 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SEARCH = 4096  # bytes to look ahead for the next frame when one is damaged


class _Frame(NamedTuple):
    size: int
    """bytes"""
    samples: int
    kind: int
    """version, layer and rate, which all frames of a stream share"""


def stated_length(path: str | Path, guessed: int) -> Source | None:
    """The file with its length put before it, or None if libsndfile has the length right.

    Args:
        path: an MP3 file.
        guessed: samples per channel that libsndfile gives it.
    """
    status = os.stat(path)  # noqa: PTH116
    counted = _count(os.fspath(path), status.st_size, status.st_mtime_ns)
    if counted is None:
        return None
    first, head, frames, samples = counted
    if abs(frames * samples - guessed) <= 2 * samples:
        return None
    return Source(path, first, _length_frame(head, frames, status.st_size - first))


@lru_cache(maxsize=4096)
def _count(path: str, size: int, changed: int) -> tuple[int, bytes, int, int] | None:
    """(offset of the first frame, its header, frames, samples each); None if length is stated.

    Counting takes about 0.1 s an hour of sound, so results are kept; size and time of change tell
    a replaced file.
    """
    del size, changed
    with open(path, "rb") as file:
        begins = _after_id3(file)
        file.seek(begins)
        data = file.read(_SEARCH + 2048)
        at = _next_frame(data, 0, None)
        if at is None or any(tag in data[at : at + 200] for tag in (b"Xing", b"Info", b"VBRI")):
            return None
        data += file.read()
    first = _frame(data, at)
    assert first is not None
    return begins + at, data[at : at + 4], _frames_from(data, at, first.kind), first.samples


def _after_id3(file: BinaryIO) -> int:
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    a, b, c, d = head[6:]  # seven bits a byte
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def _frames_from(data: bytes, position: int, kind: int) -> int:
    """The number of whole frames from `position` on, damaged stretches stepped over."""
    frames = 0
    while True:
        frame = _frame(data, position)
        if frame is None or frame.kind != kind:
            found = _next_frame(data, position + 1, kind)
            if found is None:
                return frames
            position = found
        else:
            position += frame.size
            if position > len(data):
                return frames
            frames += 1


def _frame(data: bytes, position: int) -> _Frame | None:
    head = data[position : position + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # sync and Layer III
        return None
    version = head[1] >> 3 & 3
    kbits, rate = _KBITS[version == 3][head[2] >> 4], head[2] >> 2 & 3
    if version == 1 or not kbits or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    size = samples // 8 * kbits * 1000 // _RATES[version][rate] + (head[2] >> 1 & 1)
    return _Frame(size, samples, version << 4 | rate)


def _next_frame(data: bytes, position: int, kind: int | None) -> int | None:
    """The next place where a frame begins and, so as not to be fooled, another follows it."""
    end = position + _SEARCH
    while (position := data.find(b"\xff", position, end)) >= 0:
        frame = _frame(data, position)
        if frame and kind in (None, frame.kind):
            after = _frame(data, position + frame.size)
            if after and after.kind == frame.kind:
                return position
        position += 1
    return None


def _length_frame(head: bytes, frames: int, size: int) -> bytes:
    """A silent frame that says how many frames and bytes follow."""
    version = head[1] >> 3 & 3
    mono = head[3] >> 6 == 3
    # Without checksum, at a rate whose frame has room for the tag, unpadded.
    header = bytes([0xFF, head[1] | 1, 9 << 4 | head[2] & 0x0C, head[3]])
    frame = _frame(header, 0)
    assert frame is not None
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    body = header + bytes(side) + struct.pack(">4sIII", b"Xing", 3, frames, size + frame.size)
    return body.ljust(frame.size, b"\0")


class Source:
    """A file from `start` on, with `prefix` before it: what soundfile asks of a file object."""

    def __init__(self, path: str | Path, start: int, prefix: bytes) -> None:
        self.file = open(path, "rb")  # noqa: SIM115
        self.start, self.prefix, self.position = start, prefix, 0
        self.size = len(prefix) + os.fstat(self.file.fileno()).st_size - start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(0, origin + offset)
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = max(0, self.size - self.position)
        head = self.prefix[self.position : self.position + count]
        self.position += len(head)
        if len(head) < count:
            self.file.seek(self.start + self.position - len(self.prefix))
            head += (rest := self.file.read(count - len(head)))
            self.position += len(rest)
        return head

    def close(self) -> None:
        self.file.close()
