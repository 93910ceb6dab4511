"""From a task to its table: where the set lies, and its columns under one set of names."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sonoformer.data.catalogue.catalogue import ENTRIES, local
from sonoformer.data.columns import ColumnMap
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError, nearest
from sonoformer.suite.tasks import SUITE, SuiteTask

_TABLES = (".csv", ".tsv", ".parquet")


def choose(names: tuple[str, ...]) -> list[SuiteTask]:
    """The tasks by name; a table of labelled clips is a task of its own. All without names.

    Raises:
        UserError: neither a task nor a table.
    """
    return [_task(name) for name in names] if names else list(SUITE.values())


def _task(name: str) -> SuiteTask:
    if name in SUITE:
        return SUITE[name]
    if Path(name).suffix.lower() in _TABLES and Path(name).is_file():
        return SuiteTask(
            Path(name).stem, f"classes of {Path(name).name}", name, "balanced_accuracy", "group",
            pooled=False,
        )  # fmt: skip
    raise UserError(
        f"--tasks {name}: is neither a table of labelled clips nor a task of the suite "
        f"({', '.join(SUITE)}).{nearest(name, SUITE)}"
    )


def find_set(task: SuiteTask, data: Path | None) -> Manifest | None:
    """The task's table with the columns that it names, or None if its set is not at hand.

    Looked for in `data` (`NAME.csv` or `NAME/manifest.csv`), then in the catalogue's cache.

    Raises:
        UserError: a table is there that the task cannot be read from.
    """
    if task.set not in ENTRIES:
        return _prepared(task, Manifest.read(task.set, allow_absolute=True).require_labels())
    path = _in_folder(task.set, data) or local(task.set)
    if path is None:
        return None
    if task.set == "fsdd":
        columns = ColumnMap(label_column="digit") if _has(path, "digit") else ColumnMap()
        return _prepared(task, Manifest.read(path, columns=columns, separator=";"))
    return _prepared(task, Manifest.read(path, separator=";").require_labels())


def not_here(task: SuiteTask) -> str:
    """A sentence for a set that is not at hand."""
    return (
        f"{task.name}: its set is not here; get it by `sonoformer data fetch {task.set}`, or name "
        f"a folder that holds {task.set}/manifest.csv by --data"
    )


def _in_folder(name: str, data: Path | None) -> Path | None:
    if data is None:
        return None
    places = (data / f"{name}.csv", data / name / "manifest.csv")
    return next((path for path in places if path.is_file()), None)


def _has(path: Path, column: str) -> bool:
    return column in pl.read_csv(path, n_rows=0, infer_schema=False).columns


def _prepared(task: SuiteTask, manifest: Manifest) -> Manifest:
    """With all columns that the task names, and its classes as labels."""
    table = manifest.table
    if task.set == "fsdd":
        # As spoken: DIGIT_SPEAKER_TAKE.wav.
        name = pl.col("path").str.extract_groups(r"(\d)_([^_/\\]+)_\d+\.wav$")
        table = table.with_columns(
            digit=name.struct.field("1"),
            speaker=name.struct.field("2"),
            half=pl.when(name.struct.field("1").cast(pl.Int64) < 5)
            .then(pl.lit("0-4"))
            .otherwise(pl.lit("5-9")),
        )
    if task.name == "esc10" and table["group"].null_count() == len(table):
        # The authors' names: FOLD-SOURCE-TAKE.
        source = pl.col("path").str.extract(r"\d-(\d+)-[A-Z][^/\\]*$")
        table = table.with_columns(group=pl.coalesce(source, "path"))
    if task.label != "labels":
        table = table.with_columns(labels=pl.concat_list(task.label))
    wanted = {task.turn, task.inner, *([task.drawn] if task.drawn else [])}
    lacking = sorted(wanted - set(table.columns))
    if lacking:
        raise UserError(f"{manifest.source}: {task.name} needs the column {lacking[0]!r}")
    return Manifest(table, manifest.source)
