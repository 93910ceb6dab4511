"""JSON: a list of objects, one an event; JSONL: an object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sonoformer.data.annotations.columns import EventColumns, events_from, found_columns
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import read_text, track
from sonoformer.data.events import events
from sonoformer.errors import UserError, brief
from sonoformer.files import write_text

_KEYS = ("events", "annotations", "detections")


def read_json(path: Path, columns: EventColumns) -> Marks:
    """A list of objects, or an object that holds one under `events` or `annotations`.

    Raises:
        UserError: it is no JSON, no such list, or a value is no number.
    """
    value = _parsed(read_text(path), str(path))
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), None)
    return _marks(value, columns, str(path))


def read_lines(path: Path, columns: EventColumns) -> Marks:
    """An object a line.

    Raises:
        UserError: a line is no JSON object, or a value is no number.
    """
    lines = track(path).split("\n")
    rows = [
        _parsed(line, f"{path}: line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    return _marks(rows, columns, str(path))


def write_json(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write a list of objects with all columns."""
    rows = ",\n".join(_objects(table))
    write_text(path, f"[\n{rows}\n]\n" if rows else "[]\n")


def write_lines(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write an object a line with all columns."""
    write_text(path, "".join(f"{row}\n" for row in _objects(table)))


def _objects(table: pl.DataFrame) -> list[str]:
    return [json.dumps(row, ensure_ascii=False, default=str) for row in table.iter_rows(named=True)]


def _parsed(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{source}: cannot be read as JSON ({brief(str(error))}); was it cut off?"
        ) from None


def _marks(rows: Any, columns: EventColumns, source: str) -> Marks:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{source}: should hold a list of objects, one an event")
    if not rows:
        return Marks(events())
    try:
        # Columns in which numbers and text are mixed become text.
        table = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        reason = brief(str(error).splitlines()[0])
        raise UserError(f"{source}: the objects make no table ({reason})") from None
    names = found_columns(table, columns, source, need=("start", "label"))
    if "duration" not in names:
        found_columns(table, columns, source, need=("end",))
    return Marks(events_from(table, names, source))
