"""Reader of Gravis Ultrasound patches (`.pat`), the format of the freepats bank.

A patch is a 129-byte file header, a 63-byte instrument header, a 47-byte layer header and then the
samples, each with a 96-byte header. Samples are 8 or 16 bit, signed or not (mode bits 0 and 1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonoformer.errors import UserError

_SAMPLES_AT, _FIRST = 198, 239
_SIXTEEN_BIT, _UNSIGNED = 1, 2


@dataclass(frozen=True)
class Patch:
    """One sample of a patch."""

    samples: np.ndarray
    """int16, mono"""
    sample_rate: int
    root_hz: float
    """frequency of the note that the sample plays unchanged"""


def read_patch(path: str | Path) -> list[Patch]:
    """The samples of a patch file.

    Raises:
        UserError: the file is no GUS patch, or it is cut short.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if data[:12] not in (b"GF1PATCH110\0", b"GF1PATCH100\0") or len(data) < _FIRST:
        raise UserError(f"{path}: not a GUS patch")
    position, found = _FIRST, []
    for _ in range(data[_SAMPLES_AT]):
        header = data[position : position + 96]
        if len(header) < 96:
            raise UserError(f"{path}: the patch is cut short")
        size, _, _, rate, _, _, root = struct.unpack_from("<IIIHIII", header, 8)
        body = data[position + 96 : position + 96 + size]
        if len(body) < size:
            raise UserError(f"{path}: the patch is cut short")
        found.append(Patch(_pcm(body, header[55]), rate, root / 1000))
        position += 96 + size
    return [patch for patch in found if len(patch.samples) and patch.sample_rate]


def _pcm(body: bytes, modes: int) -> np.ndarray:
    if modes & _SIXTEEN_BIT:
        raw = np.frombuffer(body, "<u2", count=len(body) // 2)
        return (raw ^ 0x8000 if modes & _UNSIGNED else raw).view("<i2")
    bytes_ = np.frombuffer(body, np.uint8)
    signed = (bytes_ ^ 0x80 if modes & _UNSIGNED else bytes_).view(np.int8)
    return signed.astype(np.int16) * 256
