"""Parquet: the events table as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.columns import EventColumns, events_from, found_columns
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.errors import UserError
from sonoformer.files import atomic


def read(path: Path, columns: EventColumns) -> Marks:
    """The rows as events; columns that hold nothing of ours are kept.

    Raises:
        UserError: it is no Parquet file, or a column is missing or of another kind.
    """
    source = str(path)
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{source}: cannot be read as Parquet ({reason})") from None
    names = found_columns(table, columns, source, need=("start", "label"))
    if "duration" not in names:
        found_columns(table, columns, source, need=("end",))
    return Marks(events_from(table, names, source))


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write all columns."""
    with atomic(path) as temporary:
        table.write_parquet(temporary)
