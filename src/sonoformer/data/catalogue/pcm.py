"""Raw 16-bit samples to WAV, bit for bit: what the sample banks' readers write."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from sonoformer.files import atomic


def write_pcm(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono int16 `samples` as a WAV file without rescaling them."""
    with atomic(path) as temporary, wave.open(str(temporary), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(samples.astype("<i2").tobytes())


def safe_name(text: str) -> str:
    """`text` as a file name: letters, digits, dot, plus, minus and underscore."""
    kept = "".join(c if c.isalnum() or c in "+-_." else "_" for c in text.strip())
    return kept.strip("._") or "unnamed"
