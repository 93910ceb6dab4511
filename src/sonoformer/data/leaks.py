"""Whether the same sound lies on both sides of a split.

Three ways are looked for: the same file (also by another name for it), the same group, and the
same bytes under different names. See `fingerprint` for how content is compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from sonoformer.data.findings import Finding, rows_where
from sonoformer.data.fingerprint import Progress, fingerprints, sizes
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


def find_leaks(
    manifest: Manifest,
    *,
    by: Literal["split", "fold"] = "split",
    full: bool = False,
    workers: int = 8,
    progress: Progress | None = None,
) -> list[Finding]:
    """Leaks as errors; copies within one part as information.

    Args:
        manifest: rows with the column `by` filled; rows where it is empty are left out.
        by: which column separates what must have nothing in common.
        full: hash whole files, not their size and both ends.
        workers: threads that read files.
        progress: called with (files hashed, files in all); only files of equal size are hashed.

    Raises:
        UserError: the column is empty.
    """
    table = manifest.table.with_row_index("row")
    if table[by].is_null().all():
        raise UserError(f"{manifest.source}: no {by} column, so there is nothing that could leak")
    files = table["path"].unique(maintain_order=True)
    real = pl.Series([str(Path(name).resolve()) for name in files.to_list()], dtype=pl.String)
    table = table.with_columns(
        file=pl.col("path").replace_strict(files, real, return_dtype=pl.String)
    )
    content = _contents(real.unique().to_list(), full, workers, progress)
    table = table.join(content, on="file", how="left", maintain_order="left")
    found = [
        _across(table, by, "file", "same-file", "the same file in different parts"),
        _across(table, by, "group", "same-group", "the same group in different parts"),
        _across(
            table.with_columns(pl.when(_copied("content")).then("content").alias("content")),
            *(by, "content", "same-content", "files with the same content in different parts"),
        ),
        _within(table, by),
    ]
    return [finding for finding in found if finding is not None]


def _contents(
    files: list[str], full: bool, workers: int, progress: Progress | None
) -> pl.DataFrame:
    """Fingerprints of the files whose size another file has too; for the others none is needed."""
    by_size: dict[int, list[str]] = {}
    for name, size in sizes(files).items():
        by_size.setdefault(size, []).append(name)
    suspects = [name for names in by_size.values() if len(names) > 1 for name in names]
    prints = fingerprints(suspects, full=full, workers=workers, progress=progress)
    schema = {"file": pl.String, "content": pl.String}
    return pl.DataFrame({"file": list(prints), "content": list(prints.values())}, schema=schema)


def _copied(column: str) -> pl.Expr:
    """Rows whose content occurs under more than one name."""
    return pl.col("file").n_unique().over(column) > 1


def _across(table: pl.DataFrame, by: str, key: str, kind: str, what: str) -> Finding | None:
    kept = table.drop_nulls([by, key])
    torn = kept.filter(pl.col(by).n_unique().over(key) > 1)
    if torn.is_empty():
        return None
    first = torn.filter(pl.col(key) == torn[key][0])
    parts = ", ".join(first[by].unique().sort().to_list())
    name = first["group"][0] if key == "group" else " = ".join(first["path"].unique().to_list()[:2])
    rows = tuple(sorted((torn["row"] + 1).to_list()))
    number = torn[key].n_unique()
    return Finding(kind, "error", f"{what}: {number}, the first is {name} in {parts}", rows)


def _within(table: pl.DataFrame, by: str) -> Finding | None:
    copies = table.select(
        copy=pl.col("content").is_not_null()
        & _copied("content")
        & (pl.col(by).n_unique().over("content") == 1)
    )["copy"]
    rows = rows_where(copies)
    if not rows:
        return None
    return Finding(
        "copies", "info", f"{len(rows)} rows with the content of another file of their part", rows
    )
