"""Which column of somebody's table of events holds what, and the events it then holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from datetime import datetime

import polars as pl

from sonoformer.data.annotations.text import BLANK, minus, numbers, plus
from sonoformer.data.columns import unnamed
from sonoformer.data.events import EVENTS
from sonoformer.errors import UserError, brief


@dataclass(frozen=True)
class EventColumns:
    """Names of the columns of a table of events; what is not given is found by usual names."""

    path_column: str | None = None
    """column with the recording (path, file, filename, Begin Path, Begin File, ...)"""
    start_column: str | None = None
    """column with the start in seconds (start, onset, Begin Time (s), File Offset (s), ...)"""
    end_column: str | None = None
    """column with the end in seconds (end, offset, End Time (s), ...)"""
    duration_column: str | None = None
    """column with the duration in seconds, where there is no end"""
    label_column: str | None = None
    """column with the class (label, event_label, species, annotation, ...)"""
    score_column: str | None = None
    """column with the score (score, confidence, probability)"""
    low_column: str | None = None
    """column with the lowest frequency in Hz"""
    high_column: str | None = None
    """column with the highest frequency in Hz"""
    channel_column: str | None = None
    """column with the channel: from 1 in Raven tables, from 0 elsewhere"""
    clock_column: str | None = None
    """column with the date and time at which the event begins, where there is no start"""

    def given(self) -> dict[str, str]:
        """What is held -> the column, for those that were named."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {_TARGETS[field]: name for field, name in pairs if name is not None}


_TARGETS = {
    "path_column": "path",
    "start_column": "start",
    "end_column": "end",
    "duration_column": "duration",
    "label_column": "label",
    "score_column": "score",
    "low_column": "low_hz",
    "high_column": "high_hz",
    "channel_column": "channel",
    "clock_column": "clock",
}
_FLAGS = {target: "--" + field.replace("_", "-") for field, target in _TARGETS.items()}
_NUMBERS = ("start", "end", "duration", "score", "low_hz", "high_hz", "channel")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "begin path"),
        *("begin file", "recording", "audio", "audio_path", "audio_file", "wav", "in file"),
    ),
    "start": (
        *("start", "onset", "start_s", "start (s)", "start_time", "start time (s)", "begin"),
        *("start_offset_s", "file offset (s)", "begin time (s)"),
    ),
    "end": (
        *("end", "offset", "end_s", "end (s)", "end_time", "end time (s)", "stop"),
        "end_offset_s",
    ),
    "duration": ("duration", "dur", "duration_s", "duration (s)", "delta time (s)"),
    "label": (
        *("label", "labels", "event_label", "annotation", "class", "class_name", "species"),
        *("common name", "common_name", "species code", "species_code", "category", "call type"),
        *("call_type", "calltype", "tags", "tag", "manual id", "top1match"),
    ),
    "score": ("score", "confidence", "conf", "probability", "prob"),
    "low_hz": ("low_hz", "low freq (hz)", "fmin", "low_frequency", "low_freq", "freq_low"),
    "high_hz": ("high_hz", "high freq (hz)", "fmax", "high_frequency", "high_freq", "freq_high"),
    "channel": ("channel",),
    "clock": ("clock", "begin date time", "begin datetime", "recorded_at", "datetime"),
}
"""Names by which columns are found, in lower case; the first that a table has counts."""

_TIMES = (
    *("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S"),
    *("%m/%d/%Y %I:%M:%S %p", "%Y%m%d_%H%M%S"),
)


def frame(header: list[str], rows: list[list[str]], source: str) -> pl.DataFrame:
    """A table of text; of columns of one name the first stays, if they say the same.

    Raises:
        UserError: columns of one name that differ, or a column without a name that holds text.
    """
    table: dict[str, list[str]] = {}
    for place, name in enumerate(header):
        values = [row[place] for row in rows]
        if not name and not any(value.strip() for value in values):
            continue  # a separator at the end of each row
        if table.setdefault(name, values) != values:
            count = Counter(header)[name]
            raise UserError(
                f"{source}: {count} columns are called {name!r} and differ; rename or delete one"
            )
    return pl.DataFrame(table, schema=dict.fromkeys(table, pl.String))


def found_columns(
    table: pl.DataFrame, columns: EventColumns, source: str, *, need: tuple[str, ...]
) -> dict[str, str]:
    """What is held -> column of `table`, given or found.

    Args:
        table: any table.
        columns: the names that were given.
        source: for messages.
        need: what has to be there.

    Raises:
        UserError: a named column does not exist or one that is needed cannot be found.
    """
    found = columns.given()
    by_name = unnamed(table, found, _FLAGS, source)
    if "in file" in by_name and "duration" in by_name and "offset" in by_name:
        found.setdefault("start", by_name["offset"])  # Kaleidoscope: where the event begins
        by_name.pop("offset")
    for target, names in SYNONYMS.items():
        candidates = [by_name[name] for name in names if name in by_name]
        if candidates:
            found.setdefault(target, candidates[0])
    missing = [target for target in need if target not in found]
    if missing:
        raise UserError(
            f"{source}: no column holds the {missing[0]}; name it by {_FLAGS[missing[0]]} "
            f"(the columns are {', '.join(table.columns)})"
        )
    return found


def events_from(
    table: pl.DataFrame,
    names: dict[str, str],
    source: str,
    *,
    first_channel: int = 0,
    keep: bool = True,
) -> pl.DataFrame:
    """The columns of events in their types; `path` and `label` may be null.

    Where a table gives no start but a date and time, the columns `clock` and `lasts` (seconds) are
    behind them, and `start` and `end` are null.

    Args:
        table: columns of text or of numbers.
        names: what is held -> column of `table`.
        source: for messages.
        first_channel: number of the first channel in the table.
        keep: keep the columns that hold nothing of ours, as they are.

    Raises:
        UserError: a cell is no number, no time or no channel.
    """
    held = {
        target: _decimals(table[names[target]], source) for target in _NUMBERS if target in names
    }
    nothing: list[str | None] = [None] * table.height
    start, end = held.get("start", nothing), held.get("end", nothing)
    lasts = held.get("duration", nothing)
    if "end" not in names:
        pairs = zip(start, lasts, strict=True)
        end = [None if None in pair else plus(*pair) for pair in pairs]  # type: ignore[arg-type]
    made: dict[str, pl.Series] = {
        "start": _floats(start),
        "end": _floats(end),
        "score": _floats(held.get("score", nothing)),
        "low_hz": _floats(held.get("low_hz", nothing)),
        "high_hz": _floats(held.get("high_hz", nothing)),
        "channel": _channels(held.get("channel", nothing), first_channel, source),
        "path": _texts(table, names.get("path")),
        "label": _texts(table, names.get("label")),
    }
    result = pl.DataFrame({name: made[name] for name in EVENTS}, schema=EVENTS)
    if "start" not in names and "clock" in names:
        if "duration" not in names and "end" not in names:
            raise UserError(f"{source}: no column holds the duration; name it by --duration-column")
        result = result.with_columns(
            clock=_clocks(table[names["clock"]], source), lasts=_floats(lasts), end=None
        )
    rest = [name for name in table.columns if name not in names.values() and name not in EVENTS]
    return result.hstack(table.select(rest)) if keep and rest else result


def span(begin: str | None, end: str | None, offset: str | None) -> str | None:
    """Where an event ends in its file that begins at `offset` there, from running times."""
    if begin is None or end is None or offset is None:
        return None
    return plus(offset, minus(end, begin))


def decimals(table: pl.DataFrame, name: str, source: str) -> list[str | None]:
    """A column of numbers as decimals; see `text.numbers`."""
    return _decimals(table[name], source)


def _decimals(series: pl.Series, source: str) -> list[str | None]:
    if series.dtype == pl.String:
        # JSON may hold null beside text.
        return numbers(series.fill_null("").to_list(), source, series.name)
    try:
        values = series.cast(pl.Float64).to_list()
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{source}: column {series.name!r} does not hold numbers") from error
    return [None if value is None else repr(value) for value in values]


def _floats(values: list[str | None]) -> pl.Series:
    return pl.Series([None if v is None else float(v) for v in values], dtype=pl.Float64)


def _channels(values: list[str | None], first: int, source: str) -> pl.Series:
    found: list[int | None] = []
    for row, value in enumerate(values, 1):
        number = None if value is None else float(value)
        if number is not None and not (number.is_integer() and first <= number < 2**31):
            raise UserError(
                f"{source}: row {row}: channel {brief(str(value))!r} is not {first}, "
                f"{first + 1}, {first + 2}, ..."
            )
        found.append(None if number is None else int(number) - first)
    return pl.Series(found, dtype=pl.Int64)


def _texts(table: pl.DataFrame, name: str | None) -> pl.Series:
    if name is None:
        return pl.Series([None] * table.height, dtype=pl.String)
    return table[name].cast(pl.String)


def _clocks(series: pl.Series, source: str) -> pl.Series:
    if series.dtype.is_temporal():
        return series.cast(pl.Datetime("us"))
    found = []
    for row, text in enumerate(series.cast(pl.String).fill_null("").to_list(), 1):
        moment = None if text.strip().lower() in BLANK else _moment(text.strip())
        if moment is None:
            raise UserError(f"{source}: row {row}: {brief(text)!r} is no date and time")
        found.append(moment.replace(tzinfo=None))
    return pl.Series(found, dtype=pl.Datetime("us"))


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _TIMES:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
