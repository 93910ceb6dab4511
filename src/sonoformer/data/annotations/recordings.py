"""The recordings that tables speak of: where they are, and what writers need to know of them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sonoformer.audio.find import find
from sonoformer.audio.opening import AUDIO_SUFFIXES
from sonoformer.audio.probe import probe
from sonoformer.errors import AudioError, UserError


@dataclass(frozen=True)
class Recording:
    """What a table may say of a recording; null where not known."""

    seconds: float | None = None
    """its length"""
    nyquist: float | None = None
    """half its sample rate, in Hz: no frequency is above it"""
    began: datetime | None = None
    """wall-clock time at which it begins"""


def recording(path: str | Path) -> Recording:
    """The facts of a sound file; all unknown where it cannot be read."""
    try:
        info = probe(path)
    except AudioError:
        return Recording()
    return Recording(info.duration, info.sample_rate / 2, info.recorded_at)


class Recordings:
    """The sound files of a folder, found by the names that tables give them.

    A name may be a path relative to the folder, a path on another computer of which the end is
    that of a file in the folder, a file name, or a file name without its ending. Nothing outside
    the folder is ever found.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100, symbolic links stay as named
        if not self.folder.is_dir():
            raise UserError(f"{folder}: no such folder; --recordings is where the sound is")
        self._by_name: Mapping[str, list[tuple[str, ...]]] | None = None

    def __contains__(self, name: str) -> bool:
        """Whether a recording, or more than one, is called that."""
        return name in self._index() or f"{name}." in self._index()

    def all(self, names: Iterable[str], source: str) -> dict[str, str]:
        """The absolute path for each name.

        Raises:
            UserError: a recording is not there, more than one could be meant, or a name climbs
                out of the folder.
        """
        found = {name: self._one(name, source) for name in dict.fromkeys(names)}
        absent = [name for name, path in found.items() if path is None]
        if absent:
            count = "recordings are" if len(absent) > 1 else "recording is"
            raise UserError(
                f"{source}: {len(absent)} {count} not in {self.folder}, the first is "
                f"{absent[0]!r}; name the folder that holds them by --recordings"
            )
        return {name: path for name, path in found.items() if path is not None}

    def _one(self, name: str, source: str) -> str | None:
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise UserError(f"{source}: {name!r}: leaves the folder of the recordings")
        if not parts:
            return None
        direct = self.folder.joinpath(*parts)
        if not re.match(r"[\\/]|[A-Za-z]:", name) and direct.is_file():
            return str(direct)
        index = self._index()
        stem = Path(parts[-1])
        bare = stem.stem if stem.suffix.lower() in AUDIO_SUFFIXES else parts[-1]
        for key in (parts[-1], f"{bare}."):
            if places := index.get(key):
                return str(self.folder.joinpath(*_nearest(parts[:-1], places, name, source)))
        return None

    def _index(self) -> Mapping[str, list[tuple[str, ...]]]:
        """The files by name, and by name without ending with a point behind."""
        if self._by_name is None:
            index = defaultdict(list)
            for path in find([self.folder]):
                place = path.relative_to(self.folder).parts
                index[place[-1]].append(place)
                index[f"{path.stem}."].append(place)
            self._by_name = dict(index)
        return self._by_name


def _nearest(
    folders: list[str], places: list[tuple[str, ...]], name: str, source: str
) -> tuple[str, ...]:
    """The place whose folders agree furthest with those of the name, from the file upwards."""

    def agreeing(place: tuple[str, ...]) -> int:
        pairs = zip(reversed(place[:-1]), reversed(folders), strict=False)
        count = 0
        for mine, theirs in pairs:
            if mine != theirs:
                break
            count += 1
        return count

    most = max(map(agreeing, places))
    best = [place for place in places if agreeing(place) == most]
    if len(best) > 1:
        shown = " and ".join("/".join(place) for place in best[:2])
        raise UserError(
            f"{source}: {name!r} could be {shown}; give the path relative to the folder"
        )
    return best[0]


def table_names(paths: Iterable[str]) -> dict[str, str]:
    """A file name for the table of each recording; those of one name in several folders differ."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", Path(path).stem) or "recording"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names[path] = name
    return names
