"""The formats of annotations by name, and which one a file is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sonoformer.data.annotations import (
    audacity,
    dcase,
    delimited,
    objects,
    parquet,
    raven,
    rttm,
    textgrid,
)
from sonoformer.data.annotations.columns import EventColumns
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import read_text
from sonoformer.errors import UserError, nearest


class Format(NamedTuple):
    """How a format is read and written, and what survives in it."""

    read: Callable[[Path, EventColumns], Marks]
    write: Callable[[pl.DataFrame, Path, Mapping[str, Recording]], None]
    suffix: str
    """ending of the files written"""
    holds: frozenset[str]
    """columns that come back bit for bit, beside start, end and label"""
    empty: bool = False
    """whether a table over several recordings names those without events"""


_ALL = frozenset(["path", "score", "low_hz", "high_hz", "channel"])
FORMATS: dict[str, Format] = {
    "raven": Format(raven.read, raven.write, ".selections.txt", _ALL),
    "audacity": Format(audacity.read, audacity.write, ".txt", frozenset(["low_hz", "high_hz"])),
    "dcase": Format(dcase.read, dcase.write, ".tsv", frozenset(["path"]), empty=True),
    "rttm": Format(rttm.read, rttm.write, ".rttm", frozenset(["path", "score", "channel"])),
    "csv": Format(delimited.read, delimited.write, ".csv", _ALL),
    "json": Format(objects.read_json, objects.write_json, ".json", _ALL),
    "jsonl": Format(objects.read_lines, objects.write_lines, ".jsonl", _ALL),
    "parquet": Format(parquet.read, parquet.write, ".parquet", _ALL),
    "textgrid": Format(textgrid.read, textgrid.write, ".TextGrid", frozenset()),
}
"""By name. Audacity and Praat hold one recording a file; Raven and RTTM number channels from 1 and
give the first to events without one."""

_SUFFIXES = {
    ".rttm": "rttm",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".textgrid": "textgrid",
}
_TRACK = re.compile(r"\s*-?\d+(?:[.,]\d+)?\t-?\d+(?:[.,]\d+)?(?:\t|$)")
_STEM = re.compile(
    r"(\.Table\.\d+)?(\.selections|\.BirdNET\.selection\.table|\.labels)?\.\w+$", re.I
)


def format_named(name: str, option: str) -> Format:
    """The format of that name.

    Raises:
        UserError: there is none.
    """
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(f"{option} {name}: unknown; choose from {known}.{nearest(name, FORMATS)}")
    return FORMATS[name]


def annotation_format(path: Path) -> str | None:
    """The format of a file that by its name, or DCASE's header, can be nothing but annotations."""
    if (name := _told_by_name(path)) or path.suffix.lower() != ".tsv":
        return name
    return "dcase" if _is_dcase(_first_cells(path)) else None


def guessed(path: Path) -> str:
    """The format of a file, from its name and, for .txt, .csv and .tsv, from its first line.

    Raises:
        UserError: it cannot be told.
    """
    suffix = path.suffix.lower()
    if name := _told_by_name(path) or _SUFFIXES.get(suffix):
        return name
    if suffix not in (".txt", ".csv", ".tsv"):
        raise UserError(
            f"{path}: its format cannot be told from its name; name it by --from "
            f"({', '.join(FORMATS)})"
        )
    if suffix == ".txt" and path.is_file() and not path.stat().st_size:
        return "audacity"  # the only one that is empty without events
    cells = _first_cells(path)
    if "begin time (s)" in cells:
        return "raven"
    if _is_dcase(cells):
        return "dcase"
    first = "\t".join(cells)
    if _TRACK.match(first) or cells[0] == "\\":
        return "audacity"
    if suffix == ".txt":
        raise UserError(
            f"{path}: is neither a Raven table nor an Audacity track; name its format by --from"
        )
    return "csv"


def recording_of(path: Path) -> str:
    """The recording that a table is of, by the table's name without its endings."""
    return _STEM.sub("", path.name) or path.stem


def _told_by_name(path: Path) -> str | None:
    name = path.name.lower()
    if name.endswith((".selections.txt", ".selection.table.txt")):
        return "raven"
    return {".rttm": "rttm", ".textgrid": "textgrid"}.get(path.suffix.lower())


def _first_cells(path: Path) -> list[str]:
    """The cells of the first line, parted by tabs, in lower case."""
    first = read_text(path).lstrip("\n").split("\n", 1)[0]
    return [cell.strip().lower() for cell in first.split("\t")]


def _is_dcase(cells: list[str]) -> bool:
    return set(dcase.HEADER) <= set(cells)
