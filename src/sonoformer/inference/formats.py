"""The tables that people's tools read: CSV, JSON, Parquet, Raven selections, Audacity labels.

A window table has the columns `path, start, end, clock`, then one column of scores a class. The
first three formats hold it as it is; Raven and Audacity hold events, so they get one row for each
window and class whose score reaches the threshold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from sonoformer.data.annotations import Recording, write_annotations
from sonoformer.errors import UserError, nearest
from sonoformer.files import atomic

PLACE = ("path", "start", "end", "clock")


def write_table(
    table: pl.LazyFrame,
    out: Path,
    format: str,
    *,
    thresholds: Mapping[str, float],
    best_only: bool = False,
    high_hz: float = 8000.0,
    durations: dict[str, float] | None = None,
) -> list[Path]:
    """Write a window table in one of `FORMATS`.

    Args:
        table: columns `path, start, end, clock` and one column of scores a class.
        out: the folder to write in.
        format: a name of `FORMATS`.
        thresholds: least score of an event in Raven and Audacity tables, 0 to 1, by class.
        best_only: take only the highest class of each window as an event.
        high_hz: upper frequency bound of Raven boxes, in Hz (the model's Nyquist).
        durations: seconds of each recording by path, for Raven's running time over several files;
            the last window's end where absent.

    Returns:
        The files written.

    Raises:
        UserError: an unknown format.
    """
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(
            f"--format {format}: unknown; choose from {known}.{nearest(format, FORMATS)}"
        )
    if format in _WHOLE:
        target = out / f"predictions.{format}"
        _WHOLE[format](table, target)
        return [target]
    found = events(table, thresholds, best_only=best_only)
    given = durations or {}
    spans = {**given, **spans_of(table), **given}
    facts = _facts(found, high_hz, spans)
    # Microseconds and four digits are what a window's place and score are worth.
    found = found.drop("clock").with_columns(
        pl.col("start", "end").round(6), pl.col("score").cast(pl.Float64).round(4)
    )
    write = _write_raven if format == "raven" else _write_audacity
    return write(found, out, facts)


def class_columns(table: pl.LazyFrame) -> list[str]:
    """Names of the score columns, in the model's order."""
    return [name for name in table.collect_schema().names() if name not in PLACE]


def events(
    table: pl.LazyFrame, thresholds: Mapping[str, float], *, best_only: bool
) -> pl.DataFrame:
    """Rows `path, start, end, clock, label, score` for scores that reach their class's threshold.

    Sorted by path, start and falling score.
    """
    names = class_columns(table)
    # Numbered, because a class may be called label or score.
    numbers = [f"{number}" for number in range(len(names))]
    least = dict(zip(numbers, thresholds.values(), strict=True))
    long = table.rename(dict(zip(names, numbers, strict=True)))
    long = long.unpivot(on=numbers, index=list(PLACE), variable_name="label", value_name="score")
    long = long.filter(pl.col("score") >= pl.col("label").replace_strict(least))
    if best_only:
        long = long.filter(pl.col("score") == pl.col("score").max().over("path", "start"))
    classes = dict(zip(numbers, thresholds, strict=True))
    long = long.with_columns(pl.col("label").replace_strict(classes))
    return long.sort("path", "start", "score", descending=[False, False, True]).collect(
        engine="streaming"
    )


def spans_of(table: pl.LazyFrame) -> dict[str, float]:
    """Seconds covered in each recording, in the order of the table."""
    ends = (
        table.group_by("path", maintain_order=True)
        .agg(pl.col("end").max())
        .collect(engine="streaming")
    )
    return dict(zip(ends["path"], ends["end"], strict=True))


def _csv(table: pl.LazyFrame, target: Path) -> None:
    with atomic(target) as temporary:
        table.sink_csv(temporary, float_precision=6, datetime_format="%Y-%m-%dT%H:%M:%S%.3f")


def _parquet(table: pl.LazyFrame, target: Path) -> None:
    with atomic(target) as temporary:
        table.sink_parquet(temporary)


def _json(table: pl.LazyFrame, target: Path) -> None:
    """One JSON array; written a slice at a time so that hours of windows need no memory."""
    with atomic(target) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write("[")
        for number, rows in enumerate(_slices(table)):
            text = ",\n".join(json.dumps(row, default=_moment, ensure_ascii=False) for row in rows)
            handle.write((",\n" if number else "\n") + text)
        handle.write("\n]\n")


def _moment(value: datetime) -> str:
    """As in CSV."""
    return value.isoformat(timespec="milliseconds")


def _slices(table: pl.LazyFrame, size: int = 20_000) -> Iterator[list[dict[str, object]]]:
    height = table.select(pl.len()).collect().item()
    for offset in range(0, height, size):
        yield table.slice(offset, size).collect().to_dicts()


def _write_raven(found: pl.DataFrame, out: Path, recordings: dict[str, Recording]) -> list[Path]:
    """One selection table over all recordings that Raven can page through, and one for each."""
    together = write_annotations(
        found, out / "predictions.selections.txt", "raven", recordings=recordings
    )
    return together + write_annotations(found, out / "raven", "raven", recordings=recordings)


def _write_audacity(found: pl.DataFrame, out: Path, recordings: dict[str, Recording]) -> list[Path]:
    """One label track a recording, with the score behind the label, where people see it.

    A recording without events gets an empty one, so that none of an earlier threshold stays.
    """
    shown = pl.format("{} {}", "label", pl.col("score").map_elements("{:.3f}".format, pl.String))
    found = found.with_columns(label=shown)
    return write_annotations(found, out / "audacity", "audacity", recordings=recordings)


def _facts(found: pl.DataFrame, high_hz: float, spans: dict[str, float]) -> dict[str, Recording]:
    """What the writers need to know; a recording's clock is told by any of its events."""
    first = found.drop_nulls("clock").unique("path").select("path", "start", "clock")
    began = {path: clock - timedelta(seconds=start) for path, start, clock in first.iter_rows()}
    return {path: Recording(span, high_hz, began.get(path)) for path, span in spans.items()}


_WHOLE: dict[str, Callable[[pl.LazyFrame, Path], None]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
FORMATS = (*_WHOLE, "raven", "audacity")
