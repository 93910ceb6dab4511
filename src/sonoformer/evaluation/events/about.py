"""What is known of recordings beside their events: lengths, groups, folds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.recordings import Recordings
from sonoformer.errors import UserError

_NUMBER, _TEXT = ("seconds",), ("group", "fold")


@dataclass(frozen=True)
class About:
    """By recording; empty where nothing is said."""

    seconds: dict[str, float] = field(default_factory=dict)
    """lengths"""
    groups: dict[str, str] = field(default_factory=dict)
    """sites, nights or individuals, which the bootstrap draws as a whole"""
    folds: dict[str, str] = field(default_factory=dict)
    """folds of a cross-validation, in which each recording was tested"""


def read_about(path: str | Path, recordings: str | Path | None = None) -> About:
    """Read a CSV, TSV or Parquet table with a row a recording.

    Args:
        path: the table, with a column `path` and any of `seconds`, `group` and `fold`.
        recordings: folder with the sound, in which the recordings are found as those of events.

    Raises:
        UserError: the table cannot be read, has none of the columns, names a recording twice, or
            has a length that is none.
    """
    table = _read(Path(path))
    known = [name for name in (*_NUMBER, *_TEXT) if name in table.columns]
    if "path" not in table.columns or not known:
        raise UserError(
            f"{path}: needs a column path and any of {', '.join((*_NUMBER, *_TEXT))}; it has "
            f"{', '.join(table.columns)}"
        )
    table = table.with_columns(pl.col(name).cast(pl.String) for name in ("path", *known))
    if recordings is not None:
        places = Recordings(recordings).all(table["path"], str(path))
        table = table.with_columns(pl.col("path").replace_strict(places, return_dtype=pl.String))
    twice = table.filter(pl.col("path").is_duplicated())
    if twice.height:
        raise UserError(f"{path}: {twice['path'][0]}: has more than one row; give it one")
    columns = {name: dict(table.select("path", name).drop_nulls().iter_rows()) for name in known}
    seconds = {
        name: _seconds(value, name, path) for name, value in columns.get("seconds", {}).items()
    }
    return About(seconds, columns.get("group", {}), columns.get("fold", {}))


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pl.read_csv(path, separator=separator, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


def _seconds(text: str, name: str, path: str | Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"{path}: {name}: seconds must be a number above 0; got {text!r}")
    return value
