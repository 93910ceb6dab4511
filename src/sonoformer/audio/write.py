"""Waveforms to files: never half a file, never the encoder's crash on long ones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import soundfile

from sonoformer.audio.resample import check_rate
from sonoformer.errors import AudioError
from sonoformer.files import atomic

_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aif": ("AIFF", "PCM_16"),
    ".aiff": ("AIFF", "PCM_16"),
}
_BLOCK = 1 << 14
"""Frames given to the encoder at a time: Vorbis takes its memory for a call from the stack, and a
long call ends the process (libsndfile #1095)."""

_WAV_LIMIT = 4_000_000_000  # bytes; the size fields of WAV end at 2**32, those of RF64 at 2**64


def write(
    path: str | Path,
    samples: np.ndarray,
    sample_rate: int,
    *,
    subtype: str | None = None,
    recorded_at: datetime | None = None,
) -> None:
    """Write a sound file, whole or not at all; the name's ending chooses the format.

    Args:
        path: ends in .wav, .rf64, .flac, .ogg (Vorbis), .opus, .mp3, .aif or .aiff.
        samples: `(samples,)` or `(samples, channels)`; floating-point at full scale 1 (integer
            codings clip beyond it), or int16 or int32.
        sample_rate: Hz.
        subtype: coding, such as PCM_24 or FLOAT; by default PCM_16 where the format has it.
        recorded_at: start of the recording, kept as a comment that `probe` and AudioMoth's
            tools read; an aware time keeps its zone.

    Raises:
        AudioError: the format or coding is unknown, there is no sample, one is NaN or infinite,
            the encoder does not take the rate or channels, or writing failed.
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_rate(sample_rate)
    coding = _coding(path, subtype)
    samples = _checked(path, samples)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    size = samples.size * max(4, samples.itemsize)
    _write(path, [samples], sample_rate, channels, size, coding, recorded_at)


def write_blocks(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    sample_rate: int,
    *,
    frames: int,
    channels: int = 1,
    subtype: str | None = None,
) -> None:
    """Write a sound file of any length block by block, whole or not at all.

    The bytes do not depend on how the sound is cut into blocks.

    Args:
        path: as in `write`.
        blocks: `(samples,)` or `(samples, channels)` each, none of them empty.
        sample_rate: Hz.
        frames: at most so many samples of each channel, by which WAV becomes RF64 in time.
        channels: of every block.
        subtype: as in `write`.

    Raises:
        AudioError, UserError: as `write`.
    """
    path = Path(path)
    check_rate(sample_rate)
    coding = _coding(path, subtype)
    size = frames * channels * 4
    checked = (_checked(path, block) for block in blocks)
    _write(path, checked, sample_rate, channels, size, coding, None)


def _write(
    path: Path,
    blocks: Iterable[np.ndarray],
    rate: int,
    channels: int,
    size: int,
    coding: tuple[str, str],
    recorded_at: datetime | None,
) -> None:
    container, subtype = coding
    # PCM_16 halves what lies in memory, but one limit for all codings is simpler and safe.
    if container == "WAV" and size > _WAV_LIMIT:
        container = "RF64"
    with atomic(path) as temporary:
        try:
            _encode(temporary, blocks, rate, channels, container, subtype, recorded_at)
        # soundfile asserts that every frame was written, which a full disk prevents.
        except (soundfile.LibsndfileError, AssertionError) as error:
            why = str(getattr(error, "error_string", "")).rstrip(".") or "the disk may be full"
            raise AudioError(
                path,
                f"cannot be written as {subtype} with {_count(channels)} at {rate} Hz ({why})",
            ) from error


def _coding(path: Path, subtype: str | None) -> tuple[str, str]:
    if path.suffix.lower() not in _FORMATS:
        raise AudioError(path, f"its name must end in one of {', '.join(_FORMATS)}")
    container, default = _FORMATS[path.suffix.lower()]
    coding = default if subtype is None else subtype.upper()
    if not soundfile.check_format(container, coding):
        known = ", ".join(soundfile.available_subtypes(container))
        raise AudioError(path, f"{container} has no coding {subtype!r}; it has {known}")
    return container, coding


def _checked(path: Path, samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.dtype not in (np.float32, np.float64, np.int16, np.int32):
        samples = samples.astype(np.float32)
    if samples.ndim not in (1, 2) or not samples.size:
        raise AudioError(
            path, f"nothing to write: samples have shape {samples.shape}; give (samples, channels)"
        )
    if not np.isfinite(samples).all():
        raise AudioError(path, "was not written: a sample is NaN or infinite")
    return samples


def _encode(
    path: Path,
    blocks: Iterable[np.ndarray],
    rate: int,
    channels: int,
    container: str,
    coding: str,
    recorded_at: datetime | None,
) -> None:
    with soundfile.SoundFile(
        str(path), "w", rate, channels, subtype=coding, format=container
    ) as file:
        if recorded_at is not None:
            file.comment = _comment(recorded_at)
        for samples in blocks:
            for first in range(0, len(samples), _BLOCK):
                file.write(np.ascontiguousarray(samples[first : first + _BLOCK]))


def _comment(began: datetime) -> str:
    """As AudioMoth writes it."""
    fraction = f".{began.microsecond:06d}".rstrip("0") if began.microsecond else ""
    zone = ""
    offset = began.utcoffset()
    if offset is not None:
        minutes = round(offset.total_seconds() / 60)
        hours, rest = divmod(abs(minutes), 60)
        zone = f"{'-' if minutes < 0 else '+'}{hours}" if minutes else ""
        zone = f" (UTC{zone}{f':{rest:02d}' if rest else ''})"
    return f"Recorded at {began:%H:%M:%S}{fraction} {began:%d/%m/%Y}{zone}"


def _count(channels: int) -> str:
    return f"{channels} channel{'s' if channels > 1 else ''}"
