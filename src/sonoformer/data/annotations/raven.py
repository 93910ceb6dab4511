"""Raven selection tables: one of a recording, or one that pages through several.

In a table over several recordings `Begin Time (s)` runs on over them while `File Offset (s)` starts
again in each. Both are written as exact decimals, so that no end is rounded by the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.columns import (
    EventColumns,
    decimals,
    events_from,
    found_columns,
    frame,
    span,
)
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import cell, decimal, fields, plus, read_text
from sonoformer.errors import UserError
from sonoformer.files import atomic

HEADER = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)"),
    *("High Freq (Hz)", "Begin Path", "File Offset (s)", "Begin Date Time", "Species", "Score"),
)
_OWN = frozenset(
    [
        *HEADER[:-2],
        *("Begin File", "End File", "End Path", "Delta Time (s)", "Delta Freq (Hz)", "End Clock"),
        *("Begin Clock", "Begin Time", "Center Freq (Hz)", "Peak Freq (Hz)", "Begin Sample"),
        *("End Sample", "Confidence", "Probability", "Length (frames)", "Begin Hour"),
    ]
)
"""Columns that Raven makes, none of which is a class."""


def read(path: Path, columns: EventColumns) -> Marks:
    """Selections, each once: the spectrogram's row where several views show one.

    The class is `columns.label_column`, else a column called like one, else the only column that
    Raven does not make itself. Without a `File Offset (s)`, times in a table over several
    recordings are taken from `Begin Date Time`.

    Raises:
        UserError: it is no selection table, or it does not say where in its recording a selection
            is, or which column holds the class.
    """
    source = str(path)
    table = frame(*fields(read_text(path), source), source)
    if "Begin Time (s)" not in table.columns:
        raise UserError(f"{source}: is no Raven selection table (no column 'Begin Time (s)')")
    table = _one_view(table)
    if columns.label_column is None and not _has_class(table, columns):
        rest = [name for name in table.columns if name not in _OWN]
        if len(rest) == 1:
            table = table.rename({rest[0]: "label"})
    table, columns = _in_file(table, columns, source)
    names = found_columns(table, columns, source, need=("label",))
    found = events_from(table, names, source, first_channel=1, keep=False)
    return Marks(found.with_columns(pl.col("label").str.strip_chars()))


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write the events, the recordings' running time in the order of `recordings`.

    A channel that is not known is Raven's first. Bounds that are not known are the whole band where
    the sample rate is known, else left empty; bounds above the Nyquist frequency are lowered to it.
    """
    shifts = _shifts(table, recordings)
    lines = ["\t".join(HEADER)]
    for number, row in enumerate(table.iter_rows(named=True), 1):
        facts, shift = recordings.get(row["path"], Recording()), shifts[row["path"]]
        low, high = _band(row["low_hz"], row["high_hz"], facts.nyquist)
        start, end = decimal(row["start"]), decimal(row["end"])
        lines.append(
            "\t".join(
                [
                    str(number),
                    "Spectrogram 1",
                    str((row["channel"] or 0) + 1),
                    plus(shift, start),
                    plus(shift, end),
                    decimal(low),
                    decimal(high),
                    cell(row["path"]),
                    start,
                    _moment(facts, row["start"]),
                    cell(row["label"]),
                    decimal(row["score"]),
                ]
            )
        )
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _one_view(table: pl.DataFrame) -> pl.DataFrame:
    """One row a selection: Raven writes one for each view, spectrogram and waveform."""
    if "View" not in table.columns:
        return table
    is_shown = pl.col("View").str.starts_with("Spectrogram")
    same = ("Selection", "Channel", "Begin Time (s)", "End Time (s)", "Begin Path", "Begin File")
    within = [name for name in same if name in table.columns]
    if "Selection" not in within:
        shown = table.filter(is_shown)
        return table if shown.is_empty() else shown
    ordered = table.with_row_index("row").sort(is_shown, descending=True, maintain_order=True)
    return ordered.unique(within, keep="first", maintain_order=True).sort("row").drop("row")


def _has_class(table: pl.DataFrame, columns: EventColumns) -> bool:
    try:
        found_columns(table, columns, "", need=("label",))
    except UserError:
        return False
    return True


def _in_file(
    table: pl.DataFrame, columns: EventColumns, source: str
) -> tuple[pl.DataFrame, EventColumns]:
    """The table with times counted from each file's beginning, where it does not have them."""
    if columns.start_column is not None or columns.end_column is not None:
        return table, columns
    given = [decimals(table, name, source) for name in ("Begin Time (s)", "End Time (s)")]
    begin, end = given
    if "File Offset (s)" in table.columns:
        offset = decimals(table, "File Offset (s)", source)
        ends = [span(*three) for three in zip(begin, end, offset, strict=True)]
        return table.with_columns(start=_texts(offset), end=_texts(ends)), columns
    files = [name for name in ("Begin Path", "Begin File") if name in table.columns]
    if not files or table[files[0]].n_unique() < 2:
        return table, columns
    if "Begin Date Time" not in table.columns:
        raise UserError(
            f"{source}: runs over {table[files[0]].n_unique()} recordings but says neither "
            "'File Offset (s)' nor 'Begin Date Time'; add one of these measurements in Raven"
        )
    lasts = [span(*three) for three in zip(begin, end, ["0"] * len(begin), strict=True)]
    table = table.drop("Begin Time (s)", "End Time (s)").with_columns(duration=_texts(lasts))
    return table, columns


def _texts(values: list[str | None]) -> pl.Series:
    return pl.Series([value or "" for value in values], dtype=pl.String)


def _shifts(table: pl.DataFrame, recordings: Mapping[str, Recording]) -> dict[str, str]:
    """Where each recording begins in the running time."""
    ends = dict(table.group_by("path", maintain_order=True).agg(pl.col("end").max()).iter_rows())
    shifts, running = {}, "0.0"
    for path in dict.fromkeys([*recordings, *ends]):
        shifts[path] = running
        seconds = recordings.get(path, Recording()).seconds
        running = plus(running, decimal(seconds if seconds is not None else ends.get(path, 0.0)))
    return shifts


def _band(
    low: float | None, high: float | None, nyquist: float | None
) -> tuple[float | None, float | None]:
    if nyquist is None:
        return low, high
    return min(low or 0.0, nyquist), nyquist if high is None else min(high, nyquist)


def _moment(facts: Recording, start: float) -> str:
    if facts.began is None:
        return ""
    return (facts.began + timedelta(seconds=start)).strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
