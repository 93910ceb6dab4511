"""User tables, lists and folders become a `Manifest`: every reader, one schema."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import polars as pl

from sonoformer.audio.find import find
from sonoformer.data.annotations.columns import EventColumns
from sonoformer.data.annotations.formats import annotation_format
from sonoformer.data.annotations.reading import annotated
from sonoformer.data.columns import SCHEMA, ColumnMap, find_columns
from sonoformer.data.manifest import Manifest, natural
from sonoformer.errors import UserError

SPLITS = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names that people give the three parts."""

_PART = {name: part for part, names in SPLITS.items() for name in names}
_NUMBERS = ("start", "end", "low_hz", "high_hz", "channel", "weight")
_TRUE, _FALSE = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")


def read_manifest(
    path: Path,
    columns: ColumnMap,
    separator: str | None,
    root: Path | None,
    allow_absolute: bool,
) -> Manifest:
    """See `Manifest.read`."""
    if path.is_dir():
        return read_folder(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if marks := annotation_format(path):
        return annotated(path, marks, columns=_event_columns(columns, path), recordings=root)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = _parquet(path)
    elif suffix in (".txt", ".lst", ".list"):
        table = _list(path)
    elif suffix in (".csv", ".tsv"):
        table = _delimited(path)
    else:
        raise UserError(
            f"{path}: a manifest is a .csv, .tsv, .parquet or .txt file, a table of annotations "
            "(.selections.txt, .rttm, .TextGrid) or a folder of audio"
        )
    if table.is_empty():
        raise UserError(f"{path}: no rows")
    names = find_columns(table, columns, str(path))
    table = _convert(table, names, separator, str(path))
    base = _absolute(root if root is not None else path.parent)
    table = _resolve(table, base, str(path), climbing=root is not None, absolute=allow_absolute)
    return Manifest.of(table, str(path))


def read_folder(folder: Path) -> Manifest:
    """Files below `folder`; the first folder on the way to a file is its class.

    Deeper folders (sites, dates) do not matter. Folders named train, validation and test on the
    first floor are splits, and the classes lie below them. Files directly in `folder` have no
    label. A class folder without audio stays in the class list.

    Raises:
        UserError: there is no audio below `folder`.
    """
    base = _absolute(folder)
    files = find([base])
    parts = [_absolute(file).relative_to(base).parts for file in files]
    top = sorted(entry.name for entry in base.iterdir() if entry.is_dir())
    top = [name for name in top if not name.startswith(".")]
    split = bool(top) and len(top) > 1 and all(name.lower() in _PART for name in top)
    depth = 1 if split else 0
    labels = [list(p[depth : depth + 1]) if len(p) > depth + 1 else [] for p in parts]
    table = pl.DataFrame(
        {
            "path": [str(base.joinpath(*p)) for p in parts],
            "labels": labels,
            "split": [_PART[p[0].lower()] if split and len(p) > 1 else None for p in parts],
        },
        schema={"path": pl.String, "labels": pl.List(pl.String), "split": pl.String},
    )
    manifest = Manifest.of(table, str(folder))
    if split or not top:
        return manifest
    return manifest.with_classes(natural(top))


def _event_columns(columns: ColumnMap, path: Path) -> EventColumns:
    """The same names for a table of annotations.

    Raises:
        UserError: a column is named that such tables do not have.
    """
    known = {field.name for field in fields(EventColumns)}
    given = {
        field.name: name for field in fields(columns) if (name := getattr(columns, field.name))
    }
    for name in given:
        if name not in known:
            raise UserError(
                f"--{name.replace('_', '-')}: {path.name} is a table of annotations, which has no "
                "such column; convert it to CSV by `sonoformer data convert` and add it there"
            )
    return EventColumns(**given)


def _delimited(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:
            head = file.readline(65536).decode("utf-8-sig", "replace")
        mark = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
        return pl.read_csv(
            path, separator=mark, infer_schema=False, encoding="utf8-lossy", raise_if_empty=False
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{path}: cannot be read as a table ({str(error).splitlines()[0]})"
        ) from error


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})"
        ) from error


def _list(path: Path) -> pl.DataFrame:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of files ({error})") from error
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return pl.DataFrame({"path": kept}, schema={"path": pl.String})


def _convert(
    table: pl.DataFrame, names: dict[str, str], separator: str | None, source: str
) -> pl.DataFrame:
    """The table with our columns in our types; other columns keep their name and text."""
    made = [_typed(table, target, name, separator, source) for target, name in names.items()]
    used = set(names.values())
    rest = [pl.col(n) for n in table.columns if n not in used and n not in SCHEMA]
    table = table.select(*made, *rest)
    if "labels" in names and "reviewed" not in names:
        # A table of labelled clips says all there is to say about a clip; with one label a row
        # an empty cell is a gap, with several it means that no class was heard.
        whole = pl.lit(True) if separator else pl.col("labels").list.len() > 0
        table = table.with_columns(reviewed=whole)
    return table


def _typed(
    table: pl.DataFrame, target: str, name: str, separator: str | None, source: str
) -> pl.Series:
    series = table[name]
    if series.dtype == pl.String:
        series = series.str.strip_chars()
        series = series.set(series == "", None)
    if target == "path":
        _refuse(series.is_null(), source, f"the column {name!r} holds no file name")
    if target in ("labels", "negatives"):
        return _lists(series, separator).alias(target)
    if target in _NUMBERS:
        return _number(series, target, source)
    if target == "reviewed":
        return _boolean(series, source)
    if target == "recorded_at":
        return _time(series, source)
    series = series.cast(pl.String)
    if target == "split":
        lower = series.str.to_lowercase()
        parts = lower.replace_strict(_PART, default=None, return_dtype=pl.String)
        wrong = parts.is_null() & series.is_not_null()
        _refuse(wrong, source, f"{name!r} must be train, validation or test", series)
        return parts.alias("split")
    return series.alias(target)


def _lists(series: pl.Series, separator: str | None) -> pl.Series:
    if isinstance(series.dtype, pl.List):
        return series.cast(pl.List(pl.String))
    text = series.cast(pl.String).to_frame("x")
    if separator is None:
        return text.select(pl.concat_list("x").list.drop_nulls()).to_series()
    pieces = pl.col("x").str.split(separator).list.eval(pl.element().str.strip_chars())
    kept = pieces.list.eval(pl.element().filter(pl.element() != "")).list.unique(
        maintain_order=True
    )
    return text.select(kept.fill_null([])).to_series()


def _number(series: pl.Series, target: str, source: str) -> pl.Series:
    dtype = SCHEMA[target]
    if target == "channel" and series.dtype == pl.String:
        series = series.set(series.str.to_lowercase() == "mix", None)
    numbers = series.cast(pl.Float64, strict=False)
    wrong = series.is_not_null() & (numbers.is_null() | ~numbers.is_finite().fill_null(False))
    _refuse(wrong, source, f"{series.name!r} is not a number", series)
    if target == "channel":
        whole = (numbers >= 0) & (numbers == numbers.floor())
        _refuse(~whole.fill_null(True), source, "a channel is 0, 1, 2, ... or mix", series)
    return numbers.cast(dtype).alias(target)


def _boolean(series: pl.Series, source: str) -> pl.Series:
    if series.dtype == pl.Boolean:
        return series.alias("reviewed")
    lower = series.cast(pl.String).str.to_lowercase()
    table = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
    found = lower.replace_strict(table, default=None, return_dtype=pl.Boolean)
    _refuse(found.is_null() & lower.is_not_null(), source, "'reviewed' is true or false", series)
    return found.alias("reviewed")


def _time(series: pl.Series, source: str) -> pl.Series:
    if series.dtype.is_temporal():
        return series.cast(pl.Datetime("us")).alias("recorded_at")
    text = series.cast(pl.String).str.replace("T", " ").str.replace(r"(Z|[+-]\d\d:?\d\d)$", "")
    frame = text.to_frame("x")
    tries = [
        pl.col("x").str.to_datetime(form, strict=False, time_unit="us")
        for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y%m%d_%H%M%S", "%Y/%m/%d %H:%M:%S")
    ]
    day = pl.col("x").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    found = frame.select(pl.coalesce(*tries, day)).to_series()
    wrong = found.is_null() & series.is_not_null()
    _refuse(wrong, source, "a time is written as 2024-05-31 06:30:00", series)
    return found.alias("recorded_at")


def _resolve(
    table: pl.DataFrame, base: Path, source: str, *, climbing: bool, absolute: bool
) -> pl.DataFrame:
    """Absolute paths, after refusing those that leave `base` without leave."""
    text = table["path"].str.replace_all("\\", "/", literal=True) if os.name == "nt" else None
    paths = table["path"] if text is None else text
    rooted = paths.str.contains(r"^(/|[A-Za-z]:[/\\])")
    inside = paths.str.starts_with(str(base).rstrip("/") + "/")
    if not absolute:
        _refuse(
            rooted & ~inside,
            source,
            "absolute path outside the table's folder; if you trust it, pass --allow-absolute",
            paths,
        )
    joined = (
        pl.DataFrame({"path": paths, "rooted": rooted})
        .select(
            pl.when("rooted")
            .then(pl.col("path"))
            .otherwise(pl.concat_str(pl.lit(str(base).rstrip("/") + "/"), pl.col("path")))
            .alias("path")
        )
        .to_series()
    )
    dotted = joined.str.contains(r"(^|/)\.\.?(/|$)|//")
    if dotted.any():
        short = joined.filter(dotted).unique()
        plain = pl.Series([os.path.normpath(p) for p in short.to_list()], dtype=pl.String)
        joined = joined.replace(short, plain)
    if not climbing:
        out = ~joined.str.starts_with(str(base).rstrip("/") + "/") & ~rooted
        _refuse(
            out,
            source,
            f"the path leaves the folder {base}; name the folder that paths start from by --root",
            paths,
        )
    return table.with_columns(joined.alias("path"))


def _absolute(path: Path) -> Path:
    """Absolute without "..", symbolic links left as they are so that names stay the user's."""
    return Path(os.path.normpath(path.absolute()))


def _refuse(wrong: pl.Series, source: str, reason: str, shown: pl.Series | None = None) -> None:
    """Name the first wrong row, counted from 1 without the header."""
    row = wrong.fill_null(False).arg_max()
    if row is None or not wrong[row]:
        return
    value = "" if shown is None else f"{shown[row]!r}: "
    more = int(wrong.sum()) - 1
    rest = f" ({more} more rows like it)" if more else ""
    raise UserError(f"{source}: row {row + 1}: {value}{reason}{rest}")
