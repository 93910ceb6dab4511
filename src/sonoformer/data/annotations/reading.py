"""Annotations of any format as one events table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.columns import EventColumns
from sonoformer.data.annotations.formats import FORMATS, format_named, guessed, recording_of
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording, Recordings, recording
from sonoformer.data.events import events, manifest_of, refuse_bad_events, whole
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.settings import read_yaml

Classes = Mapping[str, str | None]
"""New name by old name; null drops the class, several of one new name merge."""


def read_annotations(
    path: str | Path,
    format: str = "auto",
    *,
    columns: EventColumns = EventColumns(),
    classes: Classes | None = None,
    recordings: str | Path | None = None,
) -> pl.DataFrame:
    """Read a table of annotations, or a folder of tables, as events.

    Args:
        path: a file, or a folder with a table for each recording.
        format: a name of `FORMATS`; "auto" goes by file names and first lines.
        columns: names of the table's columns; the usual ones are found by themselves.
        classes: classes to rename, merge and drop; those not named stay. The name "" stands for
            events without a class.
        recordings: the folder with the sound. Names of recordings become absolute paths in it, and
            times are checked against lengths. Without it names stay as the table has them. A table
            that names no recording is of the one called like itself.

    Returns:
        A table with the columns of `EVENTS`; what else CSV, JSON and Parquet hold is behind.

    Raises:
        UserError: a table cannot be read, has errors (`check_events`), or names a recording that is
            not in `recordings`.
    """
    return read_marks(path, format, columns=columns, classes=classes, recordings=recordings).events


def read_marks(
    path: str | Path,
    format: str = "auto",
    *,
    columns: EventColumns = EventColumns(),
    classes: Classes | None = None,
    recordings: str | Path | None = None,
) -> Marks:
    """As `read_annotations`, with the recordings that have a table or a row but no event."""
    path = Path(path)
    files = _files(path, format)
    folder = None if recordings is None else Recordings(recordings)
    parts = [_read(file, format, columns, folder, alone=not path.is_dir()) for file in files]
    found = pl.concat([events(part.events) for part in parts], how="diagonal_relaxed")
    found = _renamed(found, classes or {})
    heard = set(found["path"])
    named = dict.fromkeys(name for part in parts for name in part.empty)
    lengths = {} if folder is None else _lengths(found)
    refuse_bad_events(found, str(path), lengths)
    return Marks(found, tuple(name for name in named if name not in heard))


def annotated(
    path: str | Path,
    format: str = "auto",
    *,
    columns: EventColumns = EventColumns(),
    recordings: str | Path | None = None,
) -> Manifest:
    """Annotations as a manifest; every recording that they name counts as reviewed in whole.

    That is what a table of all events means. Where only parts were listened to, read events and
    give the stretches to `events.manifest_of`.

    Args:
        path, format, columns: as `read_annotations`.
        recordings: the folder with the sound; the table's own if absent.

    Raises:
        UserError: as `read_annotations`.
    """
    path = Path(path)
    folder = (path if path.is_dir() else path.parent) if recordings is None else recordings
    marks = read_marks(path, format, columns=columns, recordings=folder)
    reviewed = whole([*marks.events["path"], *marks.empty])
    return manifest_of(marks.events, reviewed=reviewed, source=str(path))


def read_class_map(path: str | Path) -> dict[str, str | None]:
    """Classes to rename, from a YAML mapping of old to new names; null drops a class.

    Raises:
        UserError: the file cannot be read or a name is no text.
    """
    found: dict[str, str | None] = {}
    for old, new in read_yaml(path).items():
        if isinstance(old, bool) or isinstance(new, bool | list | dict):
            raise UserError(
                f"{path}: {old}: {new}: names are text; put words such as yes and no in quotes"
            )
        found[str(old)] = None if new is None else str(new)
    return found


def facts_of(paths: Iterable[str]) -> dict[str, Recording]:
    """What writers need to know of recordings, by path, in order of first appearance."""
    return {path: recording(path) for path in dict.fromkeys(paths)}


def _files(path: Path, format: str) -> list[Path]:
    if format != "auto":
        format_named(format, "--from")
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return [path]
    endings = {kind.suffix.lower() for kind in FORMATS.values()} | {".ndjson"}
    if format != "auto":
        endings = {FORMATS[format].suffix.lower()}
    shown = sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] != ".")
    files = [file for file in shown if file.name.lower().endswith(tuple(endings))]
    if not files:
        raise UserError(f"{path}: the folder holds no table ({', '.join(sorted(endings))})")
    return files


def _read(
    file: Path, format: str, columns: EventColumns, folder: Recordings | None, *, alone: bool
) -> Marks:
    name = guessed(file) if format == "auto" else format
    found, empty = FORMATS[name].read(file, columns)
    own = recording_of(file)
    # An empty table of a format that names recordings may be one over many, called anything.
    anyones = alone and "path" in FORMATS[name].holds and (folder is None or own not in folder)
    if found.is_empty() and not empty and not anyones:
        empty = (own,)
    found = found.with_columns(pl.col("path").replace("", None).fill_null(own))
    if folder is not None:
        places = folder.all([*found["path"], *empty], str(file))
        found = found.with_columns(pl.col("path").replace_strict(places, return_dtype=pl.String))
        empty = tuple(places[name] for name in empty)
    return Marks(_by_clock(found, folder, str(file)), empty)


def _by_clock(found: pl.DataFrame, folder: Recordings | None, source: str) -> pl.DataFrame:
    """Times of a clock as seconds from each recording's beginning."""
    if "clock" not in found.columns or "lasts" not in found.columns:
        return found
    if folder is None:
        raise UserError(
            f"{source}: has times of a clock; name the folder with the sound by --recordings, so "
            "that they can be counted from each recording's beginning"
        )
    facts = facts_of(found["path"])
    for path, one in facts.items():
        if one.began is None:
            raise UserError(
                f"{source}: has times of a clock, but nothing says when {path} began; name it "
                "like 20240531_063000.wav, or give starts in seconds"
            )
    began = {path: one.began for path, one in facts.items()}
    first = pl.col("path").replace_strict(began, return_dtype=pl.Datetime("us"))
    start = (pl.col("clock") - first).dt.total_microseconds() / 1e6
    found = found.with_columns(start=start).with_columns(end=pl.col("start") + pl.col("lasts"))
    return found.drop("clock", "lasts")


def _renamed(found: pl.DataFrame, classes: Classes) -> pl.DataFrame:
    dropped = [name for name, new in classes.items() if new is None]
    kept = {name: new for name, new in classes.items() if new is not None}
    label = pl.col("label").fill_null("")
    found = found.filter(~label.is_in(dropped))
    return found.with_columns(label.replace(kept)) if kept else found


def _lengths(found: pl.DataFrame) -> dict[str, float]:
    """Lengths of the recordings that can be opened."""
    facts = facts_of(found["path"])
    return {path: one.seconds for path, one in facts.items() if one.seconds is not None}
