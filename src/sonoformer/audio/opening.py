"""Opening a sound file, or saying in one sentence why it cannot be opened."""

from __future__ import annotations

import os
import stat
import string
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import soundfile

from sonoformer.audio.mpeg import Source, stated_length
from sonoformer.audio.reader import Reader
from sonoformer.errors import AudioError

READABLE_SUFFIXES = frozenset(
    [
        *(".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
        *(".aif", ".aiff", ".aifc", ".au", ".caf"),
    ]
)
"""Names of files that are read."""

FOREIGN_SUFFIXES = frozenset([".m4a", ".aac", ".wma", ".amr", ".ape", ".wv", ".ac3", ".mka"])
"""Sound that is found but cannot be read: better listed with a reason than passed over."""

AUDIO_SUFFIXES = READABLE_SUFFIXES | FOREIGN_SUFFIXES
"""Name endings, in lower case, by which folders are searched for sound."""

_MAGIC = (
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x30\x26\xb2\x75", "Windows Media"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"#!AMR", "AMR"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
)
_TEXT = frozenset(string.printable.encode())
_CONVERT = "convert it to WAV or FLAC, for example with: ffmpeg -i IN OUT.flac"


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """Yield the open file; it has at least one frame and one channel and a rate above zero.

    Raises:
        AudioError: the file is missing, a folder, unreadable, empty, without sound, or no sound.
    """
    _check_place(path)
    file, source = _open(path)
    with closing(source) if source else nullcontext(), file:
        if file.format == "RAW":  # what libsndfile makes of any file called .au or .vox
            raise AudioError(path, "has no header that says what it holds; " + _CONVERT)
        if file.frames < 1:
            raise AudioError(path, _no_frames(Path(path)))
        yield file


def _open(path: str | Path) -> tuple[Reader, Source | None]:
    """The open file and, if soundfile reads it through an object of ours, that object."""
    name = os.fspath(path)
    if name.lower().endswith(".mp3"):
        # The MP3 decoder searches anything for sound and complains on stderr.
        _refuse_text(path)
    try:
        file = Reader(name)
        if file.format == "MP3" and (source := stated_length(path, file.frames)):
            file.close()
            return Reader(source), source
    except (soundfile.LibsndfileError, TypeError, OSError) as error:
        raise AudioError(path, _diagnosis(Path(path), error)) from error
    return file, None


def _check_place(path: str | Path) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        if os.path.islink(path):  # noqa: PTH114
            reason = f"is a link to {os.readlink(path)}, which does not exist"  # noqa: PTH115
        else:
            reason = "no such file"
        raise AudioError(path, reason) from None
    except (OSError, ValueError) as error:
        raise AudioError(path, f"cannot be reached ({_why(error)})") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder, not a sound file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(path, "is not a regular file")
    if status.st_size == 0:
        raise AudioError(path, "is empty (0 bytes)")


def _refuse_text(path: str | Path) -> None:
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise AudioError(path, _unreadable(error)) from error
    if _is_text(head):
        raise AudioError(path, "is text, not sound")


def _diagnosis(path: Path, error: Exception) -> str:
    """Why a file that exists did not open."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as refusal:
        return _unreadable(refusal)
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return f"is {name}, which cannot be read; {_CONVERT}"
    if _is_text(head):
        return "is text, not sound"
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        return f"{path.suffix} files cannot be read; {_CONVERT}"
    why = _why(error)
    if why.startswith("File does not exist"):  # what the MP3 decoder's complaint comes out as
        why = "no sound found in it"
    return f"is damaged or is no sound file ({why})"


def _no_frames(path: Path) -> str:
    beyond = path.stat().st_size - 1024
    if beyond > 0:
        return (
            f"its header says it holds no sound, though some {beyond:,} bytes follow (a recording "
            "that was cut off?); repair the header, for example with: "
            "sox --ignore-length IN OUT.wav"
        )
    return "holds no sound (0 samples)"


def _is_text(head: bytes) -> bool:
    return bool(head) and _TEXT.issuperset(head) and head[:4] not in (b"RIFF", b"FORM", b"fLaC")


def _unreadable(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read it; change its permissions or run as its owner"
    return f"cannot be read ({_why(error)})"


def _why(error: Exception) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
