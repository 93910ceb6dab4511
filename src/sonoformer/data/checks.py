"""What can be wrong with a manifest, found for a million rows in seconds.

Everything is a column expression; only `probe=True` opens files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import polars as pl

from sonoformer.data.findings import Finding, rows_where

if TYPE_CHECKING:
    from sonoformer.data.manifest import Manifest

SLACK = 0.05
"""Seconds by which a labelled stretch may pass the end of its file (rounding, encoder padding)."""


def check_manifest(
    manifest: Manifest, classes: tuple[str, ...] | None = None, *, probe: bool = False
) -> list[Finding]:
    """Findings about the table, most serious first.

    Args:
        manifest: the table.
        classes: the only labels that may occur, for example a trained model's.
        probe: also open every file: unreadable files, and stretches that pass the end of the file.
    """
    table = manifest.table
    findings = [
        _missing_files(table),
        *_bad_times(table),
        *_labels(manifest, classes),
        _repeated(table),
    ]
    if probe:
        findings += _unreadable(table)
    order = {"error": 0, "warning": 1, "info": 2}
    found = [finding for finding in findings if finding is not None]
    return sorted(found, key=lambda finding: order[finding.severity])


def missing(paths: pl.Series) -> pl.Series:
    """Mask of the paths that are no existing file, by listing each folder once."""
    split = pl.DataFrame({"path": paths}).select(
        folder=pl.col("path").str.replace(r"[^/\\]*$", ""),
        name=pl.col("path").str.extract(r"([^/\\]*)$"),
    )
    folders, names = [], []
    for folder in split["folder"].unique().to_list():
        try:
            with os.scandir(folder or ".") as entries:
                here = [entry.name for entry in entries if not entry.is_dir()]
        except OSError:
            continue
        folders += [folder] * len(here)
        names += here
    there = pl.DataFrame(
        {"folder": folders, "name": names, "there": [True] * len(names)},
        schema={"folder": pl.String, "name": pl.String, "there": pl.Boolean},
    )
    joined = split.join(there, on=["folder", "name"], how="left", maintain_order="left")
    return joined["there"].is_null()


def _missing_files(table: pl.DataFrame) -> Finding | None:
    rows = rows_where(missing(table["path"]))
    if not rows:
        return None
    first = table["path"][rows[0] - 1]
    message = _count(rows, "row names a file that does not exist", "rows name missing files")
    return Finding("missing-file", "error", f"{message}, the first is {first}", rows)


def _bad_times(table: pl.DataFrame) -> list[Finding | None]:
    start, end, low, high = (table[name] for name in ("start", "end", "low_hz", "high_hz"))
    return [
        _finding("negative-time", "error", start < 0, "a start before the beginning of the file"),
        _finding("bad-times", "error", end <= start, "an end that is not after the start"),
        _finding("bad-band", "error", high <= low, "a high frequency that is not above the low"),
    ]


def _labels(manifest: Manifest, classes: tuple[str, ...] | None) -> list[Finding | None]:
    table = manifest.table
    if not manifest.labelled:
        return []
    bare = table.select(
        bare=(pl.col("labels").list.len() == 0)
        & (pl.col("negatives").list.len() == 0)
        & ~pl.col("reviewed")
    )["bare"]
    both = table.select(both=pl.col("labels").list.set_intersection("negatives").list.len() > 0)[
        "both"
    ]
    findings = [
        _finding("no-label", "warning", bare, "no label: what is in them counts as unknown"),
        _finding("contradiction", "error", both, "a class that is both present and absent"),
        _unknown(table, classes),
    ]
    counts = (
        table.select(pl.col("labels").explode())
        .drop_nulls()
        .group_by("labels")
        .agg(pl.len())
        .sort("labels")
    )
    absent = table.select(
        ((pl.col("labels").list.len() == 0) & pl.col("reviewed")).any()
        | (pl.col("negatives").list.len() > 0).any()
    ).item()
    if counts.height == 1 and not absent:
        only = counts["labels"][0]
        findings.append(
            Finding("one-class", "error", f"all labels are {only!r}: nothing to tell apart")
        )
    single = counts.filter(pl.col("len") == 1)["labels"].to_list()
    if single and counts.height > 1:
        names = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        findings.append(
            Finding(
                "single-clip",
                "warning",
                f"{_count(single, 'class has', 'classes have')} only one row and cannot be both "
                f"learned and tested: {names}",
            )
        )
    return findings


def _unknown(table: pl.DataFrame, classes: tuple[str, ...] | None) -> Finding | None:
    if classes is None:
        return None
    known = pl.DataFrame({"labels": list(classes)}, schema={"labels": pl.String})
    labels = table.select("labels").with_row_index("row", offset=1).explode("labels").drop_nulls()
    strange = labels.join(known, on="labels", how="anti")
    if strange.is_empty():
        return None
    rows = tuple(strange["row"].unique().sort().to_list())
    names = sorted(strange["labels"].unique().to_list())
    text = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
    return Finding("unknown-label", "error", f"labels outside the class list: {text}", rows)


def _repeated(table: pl.DataFrame) -> Finding | None:
    columns = ["path", "start", "end", "low_hz", "high_hz", "channel", "labels"]
    joined = table.select(columns).with_columns(pl.col("labels").list.join("\x00"))
    again = ~joined.select(first=pl.struct(columns).is_first_distinct())["first"]
    return _finding("repeated-row", "warning", again, "the same stretch and labels as before")


def _unreadable(table: pl.DataFrame) -> list[Finding | None]:
    from sonoformer.data.pool import probe_all

    there = table["path"].filter(~missing(table["path"]))
    good, bad = probe_all(there.to_list())
    seconds = pl.DataFrame(
        {"path": list(good), "seconds": [info.duration for info in good.values()]},
        schema={"path": pl.String, "seconds": pl.Float64},
    )
    joined = table.join(seconds, on="path", how="left", maintain_order="left")
    past = joined.select(
        past=(pl.col("end") > pl.col("seconds") + SLACK) | (pl.col("start") >= pl.col("seconds"))
    )["past"]
    names = pl.Series([str(error.path) for error in bad], dtype=pl.String)
    broken = table["path"].is_in(names.implode())
    reasons = f", the first: {bad[0]}" if bad else ""
    return [
        _finding("unreadable", "error", broken, f"a file that cannot be read{reasons}"),
        _finding("past-end", "error", past, "a stretch that passes the end of its file"),
    ]


def _finding(kind: str, severity: str, mask: pl.Series, what: str) -> Finding | None:
    rows = rows_where(mask)
    if not rows:
        return None
    return Finding(kind, severity, f"{_count(rows, 'row has', 'rows have')} {what}", rows)  # type: ignore[arg-type]


def _count(items: tuple[int, ...] | list[str], one: str, many: str) -> str:
    return f"1 {one}" if len(items) == 1 else f"{len(items)} {many}"
