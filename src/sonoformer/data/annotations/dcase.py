"""Strong labels of DCASE and DESED: filename, onset, offset, event_label, parted by tabs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.columns import (
    EventColumns,
    events_from,
    found_columns,
    frame,
)
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import BLANK, cell, decimal, fields, read_text
from sonoformer.files import write_text

HEADER = ("filename", "onset", "offset", "event_label")


def read(path: Path, columns: EventColumns) -> Marks:
    """The events; a row that names a recording and no times says that nothing is in it.

    Raises:
        UserError: a column is missing (weak labels have no onset), or a cell is no number.
    """
    source = str(path)
    table = frame(*fields(read_text(path), source), source)
    usual = dict(zip(("path", "start", "end", "label"), HEADER, strict=True))
    own = {
        f"{target}_column": name
        for target, name in usual.items()
        if name in table.columns and target not in columns.given()
    }
    need = ("path", "start", "end", "label")
    names = found_columns(table, replace(columns, **own), source, need=need)
    times = [pl.col(names[name]).str.to_lowercase().is_in(BLANK) for name in ("start", "end")]
    silent = pl.all_horizontal(times)
    found = events_from(table.filter(~silent), names, source, keep=False)
    empty = table.filter(silent)[names["path"]].unique(maintain_order=True).to_list()
    return Marks(
        found.with_columns(pl.col("path", "label").str.strip_chars()),
        tuple(name.strip() for name in empty),
    )


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write the events; a recording of `recordings` without one gets a row without times."""
    lines = ["\t".join(HEADER)]
    for name, start, end, label in table.select("path", "start", "end", "label").iter_rows():
        lines.append(f"{cell(name)}\t{decimal(start)}\t{decimal(end)}\t{cell(label)}")
    heard = set(table["path"])
    lines += [f"{cell(name)}\t\t\t" for name in recordings if name not in heard]
    write_text(path, "\n".join(lines) + "\n")
