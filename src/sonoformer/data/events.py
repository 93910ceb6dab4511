"""Events of recordings as a table: what a person marked, or what a model found.

An events table is a polars DataFrame with the columns of `EVENTS`, a row for each event. What was
listened to without finding anything is no event; a `Manifest` keeps it as an empty reviewed row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from sonoformer.data.findings import Finding, refuse_errors, rows_where
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError

EVENTS: dict[str, pl.DataType] = {
    "path": pl.String(),
    "start": pl.Float64(),
    "end": pl.Float64(),
    "label": pl.String(),
    "score": pl.Float64(),
    "low_hz": pl.Float64(),
    "high_hz": pl.Float64(),
    "channel": pl.Int64(),
}
"""Columns of an events table: `start` and `end` in seconds from the recording's start; `score`,
`low_hz`, `high_hz` and `channel` (counted from 0) null where not known."""

STRETCHES: dict[str, pl.DataType] = {
    "path": pl.String(),
    "start": pl.Float64(),
    "end": pl.Float64(),
}
"""Columns of a table of stretches; a null `end` is the recording's end."""

SLACK = 0.05
"""Seconds by which an event may pass the end of its recording (rounding, encoder padding)."""

_NEEDED = ("path", "start", "end", "label")
_SORTED = ("path", "start", "end", "label", "low_hz", "high_hz", "channel", "score")


def events(table: pl.DataFrame | None = None, source: str = "events") -> pl.DataFrame:
    """The table with the columns of `EVENTS` first and in their types; further ones stay behind.

    Absent `score`, `low_hz`, `high_hz` and `channel` become null. Without a table: no events.

    Raises:
        UserError: a column is missing or cannot be converted.
    """
    if table is None:
        return pl.DataFrame(schema=EVENTS)
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise UserError(
            f"{source}: an events table needs the columns {', '.join(_NEEDED)}; "
            f"it has no {' and no '.join(missing)}"
        )
    known = [
        pl.col(name).cast(kind) if name in table.columns else pl.lit(None, kind).alias(name)
        for name, kind in EVENTS.items()
    ]
    try:
        return table.select(*known, *(name for name in table.columns if name not in EVENTS))
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{source}: {str(error).splitlines()[0]}") from error


def in_order(table: pl.DataFrame) -> pl.DataFrame:
    """The events sorted by recording, start, end and label."""
    return table.sort(_SORTED, maintain_order=True)


def check_events(table: pl.DataFrame, seconds: Mapping[str, float] | None = None) -> list[Finding]:
    """What is wrong with an events table, errors first.

    Args:
        table: as `events` gives it.
        seconds: lengths of the recordings by path; those not named have no known end.
    """
    start, end, low, high = (table[name] for name in ("start", "end", "low_hz", "high_hz"))
    lengths = pl.Series([(seconds or {}).get(path) for path in table["path"]], dtype=pl.Float64)
    findings = [
        _finding(
            "non-finite", "error", _strange(start) | _strange(end), "a time that is no number"
        ),
        _finding("negative-time", "error", start < 0, "a start before the recording's beginning"),
        _finding("bad-times", "error", end < start, "an end before the start"),
        _finding("past-end", "error", end > lengths + SLACK, "an end after the recording's end"),
        _finding(
            "empty-label",
            "error",
            table["label"].fill_null("").str.strip_chars() == "",
            "no label; fill it in, or rename the empty class",
        ),
        _finding(
            "bad-band",
            "error",
            (high < low) | (low < 0) | low.is_nan() | high.is_nan(),
            "a band that does not rise from 0 Hz or more",
        ),
        _finding("no-duration", "warning", end == start, "no duration"),
        _finding("overlap", "warning", _overlapping(table), "an overlap with one of its own class"),
        _finding(
            "repeated-row",
            "warning",
            ~table.select(pl.struct(list(EVENTS)).is_first_distinct()).to_series(),
            "the same event as before",
        ),
    ]
    return [finding for finding in findings if finding is not None]


def refuse_bad_events(
    table: pl.DataFrame, source: str, seconds: Mapping[str, float] | None = None
) -> None:
    """Refuse a table with an error of `check_events`.

    Raises:
        UserError: the sentence holds the first error and counts the others.
    """
    refuse_errors(check_events(table, seconds), source, "correct the table")


def events_of(manifest: Manifest) -> pl.DataFrame:
    """The labels of a manifest as events, a row for each label of a stretch.

    A column `score` of the manifest is kept. Rows without labels give no event.

    Raises:
        UserError: a labelled stretch has no end.
    """
    table = manifest.table.filter(pl.col("labels").list.len() > 0)
    endless = table["end"].is_null()
    if endless.any():
        first = table.filter(endless)["path"][0]
        raise UserError(
            f"{manifest.source}: {first}: a labelled stretch without an end is no event; "
            "give its end in seconds"
        )
    score = [pl.col("score")] if "score" in table.columns else []
    columns = ("path", "start", "end", "low_hz", "high_hz", "channel")
    table = table.select(*columns, pl.col("labels").alias("label"), *score)
    return events(table.explode("label"), manifest.source)


def reviewed_of(manifest: Manifest) -> pl.DataFrame:
    """The reviewed stretches of a manifest, with the columns of `STRETCHES`, each once."""
    table = manifest.table.filter(pl.col("reviewed")).select(list(STRETCHES))
    return table.unique(maintain_order=True)


def whole(paths: Iterable[str]) -> pl.DataFrame:
    """Recordings from beginning to end as a table of stretches."""
    names = list(dict.fromkeys(paths))
    columns = {"path": names, "start": [0.0] * len(names), "end": [None] * len(names)}
    return pl.DataFrame(columns, schema=STRETCHES)


def manifest_of(
    found: pl.DataFrame, *, reviewed: pl.DataFrame | None = None, source: str = "events"
) -> Manifest:
    """Events as a manifest, with what was reviewed.

    Each event is a row that says what is present; each reviewed stretch is a row of its own without
    labels, so that a recording in which nothing was found is not lost. Absence follows from both:
    inside a reviewed stretch a class is absent wherever none of its events is.

    Args:
        found: an events table.
        reviewed: stretches in which every event was marked (`whole` makes whole recordings);
            without it nothing is known of what lies between the events.
        source: for messages.
    """
    marked = events(found, source).with_columns(
        labels=pl.concat_list("label"), reviewed=pl.lit(False)
    )
    if marked["score"].null_count() == marked.height:
        marked = marked.drop("score")
    empty = (pl.DataFrame(schema=STRETCHES) if reviewed is None else reviewed).select(
        *(pl.col(name).cast(kind) for name, kind in STRETCHES.items()), reviewed=pl.lit(True)
    )
    return Manifest.of(pl.concat([marked.drop("label"), empty], how="diagonal"), source)


def _strange(times: pl.Series) -> pl.Series:
    return ~times.is_finite().fill_null(False)


def _overlapping(table: pl.DataFrame) -> pl.Series:
    """Mask of the events that begin before an earlier one of their class and channel has ended."""
    within = ["path", "label", "channel"]
    order = table.select("start", "end", *within).with_row_index("row").sort(*within, "start")
    latest = pl.col("end").cum_max().shift(1).over(within)
    return order.with_columns(over=pl.col("start") < latest).sort("row")["over"]


def _finding(kind: str, severity: str, mask: pl.Series, what: str) -> Finding | None:
    rows = rows_where(mask)
    if not rows:
        return None
    count = "1 event has" if len(rows) == 1 else f"{len(rows)} events have"
    return Finding(kind, severity, f"{count} {what}", rows)  # type: ignore[arg-type]
