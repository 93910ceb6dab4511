"""CSV with any separator, quoted where needed, and any names of columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
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
from sonoformer.data.annotations.text import cell, decimal, read_text, rectangle
from sonoformer.errors import UserError
from sonoformer.files import write_text

_SEPARATORS = ",;\t|"


def read(path: Path, columns: EventColumns) -> Marks:
    """The rows as events; columns that hold nothing of ours are kept as text.

    The separator is that of comma, semicolon, tab and bar which the first line has most of. A row
    without label and end names a recording in which nothing may have been found, as in manifests.

    Raises:
        UserError: it is no table, a column is missing, or a cell is no number.
    """
    text, source = read_text(path), str(path)
    first = text.split("\n", 1)[0]
    mark = max(_SEPARATORS, key=first.count)
    try:
        # strict: what follows a quote that is never closed is not a cell of half a file.
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except csv.Error as error:
        raise UserError(f"{source}: cannot be read as a table ({error}); was it cut off?") from None
    filled = [row for row in rows if any(one.strip() for one in row)]
    table = frame(*rectangle(filled, text, source), source)
    names = found_columns(table, columns, source, need=("label",))
    if not ({"start", "clock"} & set(names)) or not ({"end", "duration"} & set(names)):
        found_columns(table, columns, source, need=("start", "end"))
    table = _with_folders(table, names)
    found = events_from(table, names, source).with_columns(
        pl.col("path", "label").str.strip_chars()
    )
    if "clock" in found.columns:
        return Marks(found)
    silent = (pl.col("label").fill_null("") == "") & pl.col("end").is_null()
    silent &= (pl.col("start").fill_null(0.0) == 0) & pl.col("path").is_not_null()
    named = found.filter(silent)["path"].unique(maintain_order=True).to_list()
    found = found.filter(~silent)
    heard = set(found["path"])
    return Marks(found, tuple(name for name in named if name not in heard))


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write all columns, parted by commas; by tabs where the file name ends in .tsv."""
    columns = []
    for name, kind in table.schema.items():
        values = table[name].to_list()
        if kind.is_float():
            columns.append([decimal(value) for value in values])
        else:
            columns.append(["" if value is None else cell(str(value)) for value in values])
    text = io.StringIO(newline="")
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    writer = csv.writer(text, delimiter=mark, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(zip(*columns, strict=True))
    write_text(path, text.getvalue())


def _with_folders(table: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    """Kaleidoscope names the folder and the file in columns of their own."""
    if names.get("path") != "IN FILE" or "FOLDER" not in table.columns:
        return table
    path = pl.concat_str("FOLDER", "IN FILE", separator="/").str.strip_chars("/")
    return table.with_columns(path.alias("IN FILE"))
