"""The chunks of a WAV file that libsndfile does not show: broadcast extension, GUANO, true length.

Only headers are read; sample data is stepped over, so that a file of any size takes microseconds.
Covers RIFF, RF64 and BW64. Chunk layouts: EBU Tech 3285 (bext), EBU Tech 3306 (RF64), GUANO 1.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_LARGEST = 1 << 20  # bytes of text read from one chunk
_MOST = 200  # chunks; a damaged file can chain more, none of use
_UNKNOWN = 0xFFFFFFFF  # a size that a streaming writer never filled in


@dataclass(frozen=True)
class Notes:
    """What a recorder wrote beside the sound; empty where it wrote nothing."""

    comment: str = ""
    guano: str = ""
    origination: str = ""
    """date and time of the broadcast extension, `YYYY-MM-DD HH:MM:SS`"""
    missing: int = 0
    """bytes of sound that the header promises beyond the end of the file"""


def read_notes(path: str | Path) -> Notes:
    """Walk the chunks of a WAV file; a file of another kind gives empty notes."""
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
            return Notes()
        return _walk(file)


def _walk(file: BinaryIO) -> Notes:
    size = file.seek(0, 2)
    found: dict[str, str] = {}
    missing, long_data = 0, None
    position = 12
    for _ in range(_MOST):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        if name == b"data":
            if length == _UNKNOWN:
                if long_data is None:  # to the end of the file, whatever that is
                    break
                length = long_data
            missing = max(0, position + 8 + length - size)
        elif name == b"ds64":
            long_data = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        elif name in _READERS:
            found |= _READERS[name](file.read(min(length, _LARGEST)))
        position += 8 + length + (length & 1)
    return Notes(**found, missing=missing)


def _broadcast(body: bytes) -> dict[str, str]:
    # Description 256, originator 32, its reference 32, then date 10 and time 8.
    date, time = _text(body[320:330]), _text(body[330:338])
    # The standard allows other marks between the numbers, and some recorders use them.
    date = "-".join(part for part in (date[:4], date[5:7], date[8:10]))
    time = ":".join(part for part in (time[:2], time[3:5], time[6:8]))
    description = _text(body[:256])
    found = {"origination": f"{date} {time}"} if len(date) == 10 and len(time) == 8 else {}
    return found | ({"comment": description} if "Recorded at" in description else {})


def _info(body: bytes) -> dict[str, str]:
    if body[:4] != b"INFO":
        return {}
    position = 4
    while position + 8 <= len(body):
        name, length = struct.unpack_from("<4sI", body, position)
        if name == b"ICMT":
            return {"comment": _text(body[position + 8 : position + 8 + length])}
        position += 8 + length + (length & 1)
    return {}


def _guano(body: bytes) -> dict[str, str]:
    return {"guano": _text(body)}


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()


_READERS = {b"bext": _broadcast, b"LIST": _info, b"guan": _guano}
