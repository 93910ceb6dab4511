"""Sound made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Make = Callable[..., Path]


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """`(samples, channels)` float32 noise whose level changes, so that places differ."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((round(seconds * rate), channels)).astype(np.float32)
    level = 0.02 + 0.1 * np.abs(np.sin(np.arange(len(x)) / rate * 3))
    return np.clip(x * level[:, None].astype(np.float32), -1, 1)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a sound with soundfile itself, by short blocks; returns its path."""

    def write(name: str, x: np.ndarray, rate: int, **options: object) -> Path:
        path = tmp_path / name
        channels = 1 if x.ndim == 1 else x.shape[1]
        if name.endswith(".opus"):
            options = {"format": "OGG", "subtype": "OPUS"} | options
        with soundfile.SoundFile(path, "w", rate, channels, **options) as file:
            for first in range(0, len(x), rate):
                file.write(x[first : first + rate])
        return path

    return write


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """One RIFF chunk; `size` may lie."""
    length = len(body) if size is None else size
    return name + struct.pack("<I", length) + body + b"\0" * (len(body) & 1)


def wav(*chunks: bytes, magic: bytes = b"RIFF", rate: int = 8000, samples: int = 8000) -> bytes:
    """A 16-bit mono WAV file of a ramp, with more chunks after the sound."""
    data = chunk(b"data", np.arange(samples, dtype="<i2").tobytes())
    body = b"WAVE" + fmt(rate) + data + b"".join(chunks)
    return magic + struct.pack("<I", len(body)) + body


def fmt(rate: int) -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16))
