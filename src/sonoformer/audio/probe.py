"""What a file holds, from its header."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import soundfile

from sonoformer.audio.clock import recorded_at
from sonoformer.errors import AudioError


@dataclass(frozen=True)
class AudioInfo:
    """The header of a recording."""

    path: Path
    sample_rate: int
    """Hz, as stored."""
    channels: int
    frames: int
    """Samples a channel, as the header says."""
    format: str
    """Container: WAV, RF64, FLAC, OGG, MP3, AIFF, ..."""
    subtype: str
    """Coding: PCM_16, FLOAT, VORBIS, ..."""
    recorded_at: datetime | None
    """Start of the recording by its metadata or name; local to the recorder unless it says UTC."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


def probe(path: str | Path) -> AudioInfo:
    """Read a recording's header.

    Raises:
        AudioError: the file is missing, unreadable, empty, or not audio that can be decoded.
    """
    with opened(path) as file:
        return describe(Path(path), file)


def describe(path: Path, file: soundfile.SoundFile) -> AudioInfo:
    """The header of an open file."""
    return AudioInfo(
        path=path,
        sample_rate=file.samplerate,
        channels=file.channels,
        frames=file.frames,
        format=file.format,
        subtype=file.subtype,
        recorded_at=recorded_at(
            path, file.comment if file.format in ("WAV", "WAVEX", "RF64") else ""
        ),
    )


@contextmanager
def opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """A file open for decoding; every way to fail becomes one sentence.

    Raises:
        AudioError: as `probe`, or the data turns out to be broken while it is read.
    """
    path = Path(path)
    try:
        # Opened by Python first: its errors say what the decoder's do not.
        handle = path.open("rb")
    except OSError as error:
        raise AudioError(
            path, _REASONS.get(error.errno or 0, error.strerror or str(error))
        ) from None
    with handle:
        if not handle.read(1):
            raise AudioError(path, "the file is empty (0 bytes)")
        handle.seek(0)
        try:
            file = soundfile.SoundFile(str(path))
        except (soundfile.LibsndfileError, RuntimeError, TypeError):
            raise AudioError(path, _unknown(path, handle.read(12))) from None
    with file:
        if file.frames < 1:
            raise AudioError(path, "holds no samples")
        try:
            yield file
        except soundfile.LibsndfileError as error:
            raise AudioError(path, f"cannot be decoded ({_short(error)})") from None


def _unknown(path: Path, head: bytes) -> str:
    if head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3"):
        return "is a video or m4a container, which is not supported; convert it to WAV or FLAC"
    if path.suffix.lower() in (".m4a", ".aac", ".wma", ".opus", ".mp4", ".webm"):
        return f"{path.suffix} files are not supported; convert it to WAV or FLAC"
    return "is not an audio file that can be read (WAV, FLAC, OGG, MP3 or AIFF)"


def _short(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().rstrip(".")


_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied; make it readable",
    errno.EPERM: "permission denied; make it readable",
    errno.EISDIR: "is a folder, not an audio file",
    errno.ELOOP: "is a symbolic link that leads in a circle",
}
