r"""Audacity's label tracks: start, end and text; in a second line `\`, low and high frequency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.columns import EventColumns, events_from, frame
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import cell, decimal, track
from sonoformer.errors import UserError, brief
from sonoformer.files import write_text

_NAMES = ("start", "end", "label", "low_hz", "high_hz")


def read(path: Path, columns: EventColumns) -> Marks:
    """The labels of one recording, which the track does not name. An empty track is one, too.

    Raises:
        UserError: a line is no label, or the file ends in the middle of one.
    """
    rows = _rows(track(path).split("\n"), str(path))
    table = frame(list(_NAMES), rows, str(path))
    found = events_from(table, {name: name for name in _NAMES}, str(path))
    known = [
        pl.when(pl.col(name) >= 0).then(pl.col(name)).alias(name) for name in ("low_hz", "high_hz")
    ]
    return Marks(found.with_columns(*known, pl.col("label").str.strip_chars()))


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write the labels of one recording."""
    lines = []
    for row in table.iter_rows(named=True):
        lines.append(f"{decimal(row['start'])}\t{decimal(row['end'])}\t{cell(row['label'])}\n")
        band = [row["low_hz"], row["high_hz"]]
        if band != [None, None]:
            # Audacity has -1 where a bound is not known.
            low, high = (decimal(-1.0 if bound is None else bound) for bound in band)
            lines.append(f"\\\t{low}\t{high}\n")
    write_text(path, "".join(lines))


def _rows(lines: list[str], source: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if not line.strip():
            continue
        if cells[0] == "\\" and rows and len(cells) >= 3:
            rows[-1][3:] = cells[1:3]
        elif cells[0] != "\\" and len(cells) >= 2:
            rows.append([*cells[:2], " ".join(cells[2:]), "", ""])
        else:
            raise UserError(
                f"{source}: line {number}: {brief(line, 60)!r} is no label of Audacity (start, "
                "end and text with tabs between); was the file cut off?"
            )
    return rows
