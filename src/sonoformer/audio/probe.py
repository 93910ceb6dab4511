"""What a sound file holds, from its header alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sonoformer.audio.clock import recorded_at
from sonoformer.audio.opening import opened
from sonoformer.audio.riff import Notes, read_notes
from sonoformer.errors import AudioError


@dataclass(frozen=True)
class AudioInfo:
    """Facts of one sound file."""

    path: Path
    sample_rate: int
    """Hz"""
    channels: int
    frames: int
    """samples per channel that the header gives; of a WAV file never more than are there"""
    format: str
    """container: WAV, WAVEX, RF64, FLAC, OGG, MP3, AIFF, ..."""
    subtype: str
    """coding: PCM_16, FLOAT, VORBIS, ..."""
    recorded_at: datetime | None = None
    """wall-clock time at which the recording begins, as its recorder wrote it, without a zone"""
    utc_offset: timedelta | None = None
    """distance of that clock from UTC, where the recorder wrote it"""
    truncated: bool = False
    """a WAV file whose header promises more sound than the file holds"""

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


def probe(path: str | Path) -> AudioInfo:
    """Read the header of a sound file.

    Raises:
        AudioError: the file is missing, unreadable, empty, holds no sample or is no sound file.
    """
    path = Path(path)
    with opened(path) as file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
        kind, subtype, comment = file.format, file.subtype, file.comment
    notes = Notes()
    if kind in ("WAV", "WAVEX", "RF64"):
        try:
            notes = read_notes(path)
        except OSError as error:  # it was there a moment ago
            raise AudioError(path, f"cannot be read ({error.strerror})") from error
    began = recorded_at(
        path,
        notes.comment or comment,
        guano=notes.guano,
        origination=notes.origination,
    )
    return AudioInfo(
        path=path,
        sample_rate=rate,
        channels=channels,
        frames=frames,
        format=kind,
        subtype=subtype,
        recorded_at=began.replace(tzinfo=None) if began else None,
        utc_offset=began.utcoffset() if began else None,
        truncated=notes.missing > 0,
    )
