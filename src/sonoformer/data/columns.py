"""Which column of a user's table holds what.

Tables come with any column names. A `ColumnMap` names them; what it leaves open is found by the
names that people use. Two columns that could both hold the same thing are an error, never a guess,
unless they say the same (ESC-50's `target` and `category`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import polars as pl

from sonoformer.errors import UserError, nearest

SCHEMA: dict[str, pl.DataType] = {
    "path": pl.String(),
    "start": pl.Float64(),
    "end": pl.Float64(),
    "low_hz": pl.Float64(),
    "high_hz": pl.Float64(),
    "channel": pl.Int32(),
    "labels": pl.List(pl.String),
    "negatives": pl.List(pl.String),
    "reviewed": pl.Boolean(),
    "weight": pl.Float64(),
    "split": pl.String(),
    "fold": pl.String(),
    "group": pl.String(),
    "recorded_at": pl.Datetime("us"),
}
"""Columns of a manifest's table and their types; see `Manifest` for what each means."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path"),
        *("audio_file", "audiofile", "wav", "recording", "fname", "begin path", "begin file"),
    ),
    "labels": (
        *("labels", "label", "category", "class", "class_name", "classname", "target", "species"),
        *("species_code", "tag", "tags", "event_label", "primary_label", "annotation"),
    ),
    "negatives": ("negatives", "negative", "absent"),
    "start": ("start", "onset", "start_s", "start_time", "begin", "begin time (s)"),
    "end": ("end", "offset", "end_s", "end_time", "stop", "end time (s)"),
    "low_hz": ("low_hz", "fmin", "low freq (hz)", "low_frequency"),
    "high_hz": ("high_hz", "fmax", "high freq (hz)", "high_frequency"),
    "channel": ("channel",),
    "reviewed": ("reviewed",),
    "weight": ("weight",),
    "split": ("split", "subset", "partition"),
    "fold": ("fold", "folds"),
    "group": ("group", "group_id"),
    "recorded_at": ("recorded_at", "datetime", "timestamp", "begin date time"),
}


@dataclass(frozen=True)
class ColumnMap:
    """Names of a table's columns; what is not given is found by the usual names."""

    path_column: str | None = None
    """column with the file names (found by itself: path, file, filename, audio, ...)"""
    label_column: str | None = None
    """column with the class or classes (label, category, class, target, species, ...)"""
    negative_column: str | None = None
    """column with classes that were looked for and are absent"""
    start_column: str | None = None
    """column with the start of the labelled stretch in seconds"""
    end_column: str | None = None
    """column with the end of the labelled stretch in seconds"""
    low_column: str | None = None
    """column with the lowest frequency of the labelled sound in Hz"""
    high_column: str | None = None
    """column with the highest frequency of the labelled sound in Hz"""
    channel_column: str | None = None
    """column with the channel, counted from 0; empty means the mean of all"""
    reviewed_column: str | None = None
    """column that says (true/false) that unlabelled classes are absent from the stretch"""
    weight_column: str | None = None
    """column with the sampling weight of a row"""
    split_column: str | None = None
    """column with train, validation or test"""
    fold_column: str | None = None
    """column with the cross-validation fold"""
    group_column: str | None = None
    """column with what must stay on one side of a split: site, recording, speaker, ..."""
    time_column: str | None = None
    """column with the date and time of the recording"""

    def given(self) -> dict[str, str]:
        """Manifest column -> the user's column, for those that were named."""
        found = {}
        for field in fields(self):
            name = getattr(self, field.name)
            if name is not None:
                found[_TARGETS[field.name]] = name
        return found


_TARGETS = {
    "path_column": "path",
    "label_column": "labels",
    "negative_column": "negatives",
    "start_column": "start",
    "end_column": "end",
    "low_column": "low_hz",
    "high_column": "high_hz",
    "channel_column": "channel",
    "reviewed_column": "reviewed",
    "weight_column": "weight",
    "split_column": "split",
    "fold_column": "fold",
    "group_column": "group",
    "time_column": "recorded_at",
}
_FLAGS = {target: "--" + field.replace("_", "-") for field, target in _TARGETS.items()}


def flag(column: str) -> str:
    """The command-line flag that names the user's column for the manifest column `column`."""
    return _FLAGS[column]


def unnamed(
    table: pl.DataFrame, given: Mapping[str, str], flags: Mapping[str, str], source: str
) -> dict[str, str]:
    """The columns that nobody named, by their names in lower case.

    Args:
        table: a user's table.
        given: what is held -> the column that was named for it.
        flags: what is held -> the option by which it was named.
        source: for messages.

    Raises:
        UserError: a named column does not exist.
    """
    for target, name in given.items():
        if name not in table.columns:
            raise UserError(
                f"{source}: there is no column {name!r} ({flags[target]}); the columns are "
                f"{', '.join(table.columns)}.{nearest(name, table.columns)}"
            )
    taken = set(given.values())
    return {name.strip().lower(): name for name in table.columns if name not in taken}


def find_columns(table: pl.DataFrame, columns: ColumnMap, source: str) -> dict[str, str]:
    """Manifest column -> column of `table`, given or found.

    Raises:
        UserError: a named column does not exist, two columns could be meant, or no column holds
            the paths.
    """
    found = columns.given()
    by_name = unnamed(table, found, _FLAGS, source)
    for target, names in SYNONYMS.items():
        if target in found:
            continue
        candidates = [by_name[name] for name in names if name in by_name]
        if candidates:
            found[target] = _choose(table, target, candidates, source)
    if "path" not in found:
        raise UserError(
            f"{source}: no column of file names; name it by --path-column "
            f"(the columns are {', '.join(table.columns)})"
        )
    return found


def _choose(table: pl.DataFrame, target: str, candidates: list[str], source: str) -> str:
    exact = [name for name in candidates if name == target]
    if exact or len(candidates) == 1:
        return (exact or candidates)[0]
    if _same_meaning(table, candidates):
        # The one with words reads better than the one with numbers.
        wordy = [c for c in candidates if not _numeric(table[c])]
        return (wordy or candidates)[0]
    raise UserError(
        f"{source}: the columns {' and '.join(candidates)} could both hold the {target}; "
        f"choose one by {_FLAGS[target]}"
    )


def _same_meaning(table: pl.DataFrame, names: list[str]) -> bool:
    counts = [table[name].n_unique() for name in names]
    return len(set(counts)) == 1 and table.select(names).n_unique() == counts[0]


def _numeric(series: pl.Series) -> bool:
    if series.dtype.is_numeric():
        return True
    values = series.drop_nulls()
    return bool(values.cast(pl.Float64, strict=False).is_not_null().all())
