"""What is in a manifest: how many recordings, how long, which labels, in which part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from sonoformer.data.manifest import Manifest
from sonoformer.errors import AudioError

if TYPE_CHECKING:
    from rich.console import RenderableType

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Summary:
    """Numbers about a manifest."""

    source: str
    rows: int
    files: int
    hours: float | None
    """hours of the labelled stretches; None if files were not opened"""
    seconds: tuple[float, float, float] | None
    """shortest, median and longest stretch in seconds"""
    labels: pl.DataFrame
    """`label`, `rows` (present), `negatives`, and `hours` if files were opened"""
    parts: pl.DataFrame
    """`column` (split or fold), `part`, `rows`, `groups`, and `hours` if files were opened"""
    sample_rates: pl.DataFrame
    """`sample_rate`, `channels`, `files`; empty if files were not opened"""
    groups: int
    unlabelled: int
    """rows without any label"""
    bad: tuple[AudioError, ...]
    """files that cannot be used"""


def summarise(
    manifest: Manifest,
    *,
    probe: bool = True,
    workers: int = 8,
    progress: Progress | None = None,
) -> Summary:
    """Count labels, and with `probe` open every file in threads for its length and rate."""
    table, rates = manifest.table, _no_rates()
    bad: tuple[AudioError, ...] = ()
    if probe:
        table, rates, bad = _with_seconds(manifest, workers, progress)
    seconds = table["_seconds"].drop_nulls() if probe else pl.Series(dtype=pl.Float64)
    spread = None
    if len(seconds):
        spread = tuple(float(seconds.quantile(q, "linear") or 0) for q in (0, 0.5, 1))
    return Summary(
        source=manifest.source,
        rows=len(manifest),
        files=table["path"].n_unique(),
        hours=float(seconds.sum()) / 3600 if probe else None,
        seconds=spread,  # type: ignore[arg-type]
        labels=_labels(table, manifest.classes, probe),
        parts=pl.concat([_parts(table, column, probe) for column in ("split", "fold")]),
        sample_rates=rates,
        groups=table["group"].drop_nulls().n_unique(),
        unlabelled=int((table["labels"].list.len() == 0).sum()),
        bad=bad,
    )


def render(summary: Summary, *, most: int = 40) -> RenderableType:
    """The summary for a terminal; at most `most` labels are listed."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # Text, not markup: a path may hold brackets.
    title = Text.assemble((summary.source, "bold"), ": ", _sentence(summary))
    shown: list[RenderableType] = [title]
    for name, frame in (
        ("Parts", summary.parts),
        ("Labels", summary.labels.head(most)),
        ("Sample rates", summary.sample_rates),
    ):
        if frame.is_empty():
            continue
        grid = Table(title=name, title_justify="left")
        for column, dtype in frame.schema.items():
            grid.add_column(column, justify="right" if dtype.is_numeric() else "left")
        for row in frame.iter_rows():
            grid.add_row(*[Text(f"{v:.2f}" if isinstance(v, float) else str(v)) for v in row])
        shown.append(grid)
    if summary.labels.height > most:
        shown.append(f"... and {summary.labels.height - most} more labels")
    shown += [Text.assemble(("unusable ", "yellow"), str(error)) for error in summary.bad[:10]]
    if len(summary.bad) > 10:
        shown.append(f"... and {len(summary.bad) - 10} more unusable files")
    return Group(*shown)


def _sentence(summary: Summary) -> str:
    text = f"{summary.rows} rows of {summary.files} files"
    if summary.hours is not None:
        text += f", {summary.hours:.2f} h"
    if summary.seconds is not None:
        low, middle, high = summary.seconds
        text += f" ({low:.2f} to {high:.2f} s, median {middle:.2f} s)"
    if summary.labels.height:
        text += f", {summary.labels.height} labels, {summary.unlabelled} rows without"
    if summary.groups:
        text += f", {summary.groups} groups"
    return text + (f", {len(summary.bad)} unusable files" if summary.bad else "")


def _with_seconds(
    manifest: Manifest, workers: int, progress: Progress | None
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[AudioError, ...]]:
    from sonoformer.data.pool import probe_all

    good, bad = probe_all(manifest.files, workers=workers, progress=progress)
    facts = pl.DataFrame(
        {
            "path": list(good),
            "_length": [info.duration for info in good.values()],
            "sample_rate": [info.sample_rate for info in good.values()],
            "channels": [info.channels for info in good.values()],
        },
        schema={
            "path": pl.String,
            "_length": pl.Float64,
            "sample_rate": pl.Int64,
            "channels": pl.Int64,
        },
    )
    rates = facts.group_by("sample_rate", "channels").agg(files=pl.len().cast(pl.Int64))
    table = manifest.table.join(
        facts.select("path", "_length"), on="path", how="left", maintain_order="left"
    )
    stop = pl.min_horizontal(pl.col("end").fill_null(float("inf")), pl.col("_length"))
    known = pl.col("_length").is_not_null()
    table = table.with_columns(
        pl.when(known).then((stop - pl.col("start")).clip(lower_bound=0)).alias("_seconds")
    )
    return table, rates.sort("files", descending=True), bad


def _no_rates() -> pl.DataFrame:
    return pl.DataFrame(schema={"sample_rate": pl.Int64, "channels": pl.Int64, "files": pl.Int64})


def _hours(probe: bool) -> list[pl.Expr]:
    return [(pl.col("_seconds").sum() / 3600).alias("hours")] if probe else []


def _labels(table: pl.DataFrame, classes: tuple[str, ...], probe: bool) -> pl.DataFrame:
    names = pl.DataFrame({"label": list(classes)}, schema={"label": pl.String})
    counted = (
        table.explode("labels")
        .drop_nulls("labels")
        .group_by(label="labels")
        .agg(pl.len().cast(pl.Int64).alias("rows"), *_hours(probe))
    )
    absent = (
        table.select(label=pl.col("negatives").explode())
        .drop_nulls()
        .group_by("label")
        .agg(negatives=pl.len().cast(pl.Int64))
    )
    joined = names.join(counted, on="label", how="left", maintain_order="left").join(
        absent, on="label", how="left", maintain_order="left"
    )
    joined = joined.with_columns(pl.exclude("label").fill_null(0))
    order = ["label", "rows", "negatives", *(["hours"] if probe else [])]
    return joined.select(order).sort("rows", descending=True, maintain_order=True)


def _parts(table: pl.DataFrame, column: str, probe: bool) -> pl.DataFrame:
    counted = (
        table.drop_nulls(column)
        .group_by(part=column)
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("group").drop_nulls().n_unique().cast(pl.Int64).alias("groups"),
            *_hours(probe),
        )
        .sort("part")
    )
    return counted.select(pl.lit(column).alias("column"), pl.all())
