"""Recordings named by files, folders and patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path

from sonoformer.errors import UserError

AUDIO_SUFFIXES = (
    ".wav", ".wave", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc",
    ".au", ".w64", ".caf",
)  # fmt: skip


def find(paths: Iterable[str | Path], *, exclude: Iterable[str | Path] = ()) -> list[Path]:
    """Recordings under `paths`, sorted, each file once.

    Args:
        paths: files (taken whatever their suffix), folders (searched through for
            `AUDIO_SUFFIXES`; names that begin with a dot are passed over), and patterns such as
            `site-*/**/*.wav`.
        exclude: files and folders to leave out.

    Raises:
        UserError: a path matches nothing, or no recording at all.
    """
    out = {Path(path).resolve() for path in exclude}
    found: dict[Path, Path] = {}
    for given in paths:
        matches = list(_one(str(given)))
        if not matches:
            raise UserError(f"{given}: {_nothing(Path(given))}")
        for path in matches:
            real = path.resolve()
            if real not in out and not any(parent in out for parent in real.parents):
                found.setdefault(real, path)
    return sorted(found.values())


def _one(given: str) -> Iterable[Path]:
    path = Path(given)
    if path.is_dir():
        return _walk(path)
    if path.exists():
        return [path]
    if has_magic(given):
        # Path.glob takes no absolute patterns, which is what a shell user writes.
        hits = [Path(hit) for hit in glob(given, recursive=True)]  # noqa: PTH207
        return [file for hit in hits for file in (_walk(hit) if hit.is_dir() else _audio([hit]))]
    return []


def _walk(folder: Path) -> list[Path]:
    # os.walk does not follow links to folders, so that loops of links cannot trap it.
    files: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += _audio([Path(here, name) for name in names if not name.startswith(".")])
    return files


def _audio(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]


def _nothing(path: Path) -> str:
    if path.is_dir():
        return "no audio files in this folder"
    if has_magic(str(path)):
        return "no file matches this pattern"
    return "no such file or folder"
