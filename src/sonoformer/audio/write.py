"""Waveforms -> files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import soundfile

from sonoformer.errors import UserError
from sonoformer.files import atomic

_FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aif": "AIFF"}
_RF64_FROM = 4_000_000_000
"""Bytes of sound from which a WAV file needs the RF64 header."""


def write(
    path: str | Path,
    samples: np.ndarray,
    sample_rate: int,
    *,
    subtype: str | None = None,
    recorded_at: datetime | None = None,
) -> None:
    """Write float samples in [-1, 1], `(samples,)` or `(samples, channels)`, atomically.

    Args:
        path: the suffix names the format: wav, flac, ogg (Vorbis), mp3, aif.
        samples: the sound.
        sample_rate: Hz.
        subtype: coding, such as `PCM_16` (the default of WAV and FLAC) or `FLOAT`.
        recorded_at: start of the recording, written as a comment that `probe` reads back.

    Raises:
        UserError: an unknown suffix, a coding that the format does not have, samples that are not
            finite, a folder that cannot be written, a full disk.
    """
    path = Path(path)
    format = _FORMATS.get(path.suffix.lower())
    if format is None:
        raise UserError(f"{path}: unknown audio format; end the name in {', '.join(_FORMATS)}")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: the sound to write holds a sample that is not a number")
    if format == "WAV" and samples.size * 4 > _RF64_FROM:
        format = "RF64"
    if not soundfile.check_format(format, subtype):
        raise UserError(f"{path}: {format} files have no coding {subtype}")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with (
        atomic(path) as temporary,
        soundfile.SoundFile(
            str(temporary), "w", sample_rate, channels, subtype, format=format
        ) as file,
    ):
        if recorded_at is not None:
            file.comment = f"Recorded at {recorded_at:%H:%M:%S %d/%m/%Y} (UTC)"
        # libsndfile's Vorbis encoder overflows its stack when given minutes in one call.
        for begin in range(0, len(samples), sample_rate):
            file.write(samples[begin : begin + sample_rate])
