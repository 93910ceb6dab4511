"""Sound files among files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sonoformer.audio.opening import AUDIO_SUFFIXES
from sonoformer.errors import UserError


def find(paths: Iterable[str | Path], *, exclude: Iterable[str | Path] = ()) -> list[Path]:
    """List the sound files that `paths` name.

    A file named outright is taken whatever it is called. A folder is searched with all that is
    in it, links followed, for names that end in `AUDIO_SUFFIXES` in any case. A pattern (`*`,
    `?`, `[...]`, `**`) stands for the sound files and folders it matches. Hidden files and
    folders (`.name`) are passed over unless named outright; a link to nothing is listed, so that
    reading it tells the user.

    Args:
        paths: files, folders, patterns.
        exclude: the same, left out of the result.

    Returns:
        Paths as reached from what was given, sorted; each file once, however many ways lead to it.

    Raises:
        UserError: one of `paths` or `exclude` is not there or matches no sound, or a folder
            cannot be opened.
    """
    left_out = {real for item in exclude for real, _ in _expand(item, may_be_bare=True)}
    found: dict[str, str] = {}
    for item in [paths] if isinstance(paths, str | Path) else paths:
        for real, path in _expand(item, may_be_bare=False):
            if real not in left_out and path < found.get(real, path + "\0"):
                found[real] = path
    return [Path(path) for path in sorted(found.values())]


def _expand(item: str | Path, *, may_be_bare: bool) -> list[tuple[str, str]]:
    """(real path, path as given) of every sound file that `item` stands for."""
    name = os.path.expanduser(os.fspath(item))  # noqa: PTH111
    if os.path.isdir(name):  # noqa: PTH112
        found = list(_walk(name, set()))
        if not found and not may_be_bare:
            raise UserError(f"{item}: the folder holds no sound file ({_known()})")
        return found
    if os.path.lexists(name):
        return [(os.path.realpath(name), name)]
    if not glob.has_magic(name):
        raise UserError(f"{item}: no such file or folder")
    found = []
    for match in glob.iglob(name, recursive=True):  # noqa: PTH207
        if os.path.isdir(match):  # noqa: PTH112
            found += _walk(match, set())
        elif _is_sound(match):
            found.append((os.path.realpath(match), match))
    if not found:
        raise UserError(f"{item}: the pattern matches no sound file ({_known()})")
    return found


def _walk(folder: str, above: set[str]) -> Iterator[tuple[str, str]]:
    """All sound below `folder`; `above` holds the real folders on the way, to stop loops."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be opened ({error.strerror})") from error
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(entry.path, above | {real})
        elif _is_sound(entry.name):
            # Asking the system for the real path of each of a million files would take minutes.
            whole = (
                os.path.realpath(entry.path) if entry.is_symlink() else real + os.sep + entry.name
            )
            yield whole, entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_sound(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122


def _known() -> str:
    return ", ".join(sorted(AUDIO_SUFFIXES))
