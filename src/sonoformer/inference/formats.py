"""The tables that people's tools read: CSV, JSON, Parquet, Raven selections, Audacity labels.

A window table has the columns `path, start, end, clock`, then one column of scores a class. The
first three formats hold it as it is; Raven and Audacity hold events, so they get one row for each
window and class whose score reaches the threshold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from sonoformer.errors import UserError, nearest
from sonoformer.files import atomic, write_text

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
    if format == "raven":
        return _write_raven(found, out, high_hz, spans)
    return _write_audacity(found, out, list(spans))


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


def _write_raven(
    found: pl.DataFrame, out: Path, high_hz: float, spans: dict[str, float]
) -> list[Path]:
    """One selection table a recording, and one over all that Raven can page through.

    In the combined table `Begin Time (s)` runs on over the recordings while `File Offset (s)`
    starts again in each, as Raven does it.
    """
    columns = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
        "Begin Path\tFile Offset (s)\tBegin Date Time\tSpecies\tScore"
    )
    begins, running = {}, 0.0
    for path, seconds in spans.items():
        begins[path] = running
        running += seconds

    def lines(rows: pl.DataFrame, shift: dict[str, float]) -> str:
        text = [columns]
        for number, row in enumerate(rows.iter_rows(named=True), 1):
            offset = shift.get(row["path"], 0.0)
            clock = row["clock"].strftime("%Y/%m/%d %H:%M:%S.%f")[:-3] if row["clock"] else ""
            text.append(
                f"{number}\tSpectrogram 1\t1\t{row['start'] + offset:.3f}"
                f"\t{row['end'] + offset:.3f}\t0.0\t{high_hz:.1f}\t{_cell(row['path'])}"
                f"\t{row['start']:.3f}\t{clock}"
                f"\t{_cell(row['label'])}\t{row['score']:.4f}"
            )
        return "\n".join(text) + "\n"

    written = [out / "predictions.selections.txt"]
    write_text(written[0], lines(found, begins))
    rows = _by_path(found)
    for path, name in _names(list(spans)).items():
        written.append(out / "raven" / f"{name}.selections.txt")
        write_text(written[-1], lines(rows.get(path, found.clear()), {}))
    return written


def _write_audacity(found: pl.DataFrame, out: Path, paths: Sequence[str]) -> list[Path]:
    """One label track a recording: start, end and `label score`, separated by tabs.

    A recording without events gets an empty one, so that none of an earlier threshold stays.
    """
    written, rows = [], _by_path(found)
    for path, name in _names(paths).items():
        text = "".join(
            f"{row['start']:.6f}\t{row['end']:.6f}\t{_cell(row['label'])} {row['score']:.3f}\n"
            for row in rows.get(path, found.clear()).iter_rows(named=True)
        )
        written.append(out / "audacity" / f"{name}.txt")
        write_text(written[-1], text)
    return written


def _by_path(found: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = found.partition_by("path", maintain_order=True, as_dict=True)
    return {str(path): part for (path,), part in parts.items()}


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A file name for each recording; recordings of one name in several folders stay apart."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", Path(path).stem) or "recording"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names[path] = name
    return names


def _cell(text: str) -> str:
    return re.sub(r"[\t\r\n]+", " ", text)


_WHOLE: dict[str, Callable[[pl.LazyFrame, Path], None]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
FORMATS = (*_WHOLE, "raven", "audacity")
