"""What can be asked about: the events of `detect`, or the windows of `predict`, class by class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sonoformer.data.annotations import read_annotations
from sonoformer.data.annotations.recordings import Recordings
from sonoformer.data.events import EVENTS, events
from sonoformer.errors import UserError, nearest
from sonoformer.files import read_json
from sonoformer.inference.formats import PLACE, class_columns

_RUNS = {"predict": "predictions", "detect": "events"}
"""Verb -> name of the tables that its run leaves."""
_ENDINGS = (".parquet", ".csv", ".jsonl", ".json")
_NOT_A_RUN = "is no run of predict or detect; name one, or a table of theirs"


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scored stretches of recordings.

    Attributes:
        source: where they come from.
        classes: names.
        table: an events table, or a row a window with a column of scores a class.
        windows: which of the two.
        folder: what relative names of recordings start from besides the current folder.
        ours: whether a run of ours wrote it, whose paths are taken as they are.
    """

    source: str
    classes: tuple[str, ...]
    table: pl.LazyFrame
    windows: bool
    folder: Path
    ours: bool

    def of(self, name: str) -> pl.DataFrame:
        """The stretches of a class with the columns of an events table, in the table's order."""
        if self.windows:
            place = self.table.select("path", "start", "end", pl.col(name).alias("score"))
            found = events(place.with_columns(label=pl.lit(name)).collect(), self.source)
        else:
            found = self.table.filter(pl.col("label") == name).collect()
        return found.filter(pl.col("score").is_finite())

    def chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        """The named classes, or all.

        Raises:
            UserError: there is no class of such a name.
        """
        for name in names:
            if name not in self.classes:
                raise UserError(
                    f"--classes {name}: {self.source} has {', '.join(self.classes)}."
                    f"{nearest(name, self.classes)}"
                )
        return tuple(names) or self.classes

    def located(self, names: Iterable[str], recordings: Path | None) -> dict[str, str]:
        """The absolute path of each recording.

        Args:
            names: as the table has them.
            recordings: a folder in which they are looked up by name; nothing outside it is found.
                Without it they start from the current folder or from the table's.

        Raises:
            UserError: a recording is not there, or its name leaves the folder.
        """
        if not self.ours and recordings is None:
            for name in names:
                if ".." in Path(name).parts:
                    raise UserError(
                        f"{self.source}: {name!r} leaves the folder of the table; name the folder "
                        "of the recordings by --recordings"
                    )
        return located(names, self.source, (Path(), self.folder), recordings)


def read_candidates(source: Path) -> Candidates:
    """The candidates in a run of `predict` or `detect`, or in a table.

    Raises:
        UserError: there is none, or its rows have no scores.
    """
    table, ours = _table_of(source) if source.is_dir() else (source, False)
    if not table.is_file():
        raise UserError(f"{source}: no such file or folder")
    if (windows := _windows(table)) is not None:
        classes = tuple(class_columns(windows))
        return Candidates(str(table), classes, windows, True, table.parent, ours)
    found = read_annotations(table).select(list(EVENTS))
    if found["score"].null_count() == found.height:
        raise UserError(
            f"{table}: its events have no score, so none is more certain than another; give a "
            "table that `sonoformer detect` or `sonoformer predict` wrote"
        )
    classes = tuple(sorted(found["label"].unique()))
    return Candidates(str(table), classes, found.lazy(), False, table.parent, ours)


def _table_of(run: Path) -> tuple[Path, bool]:
    """The table that a run left."""
    verb = read_json(run / "run.json").get("verb") if (run / "run.json").is_file() else None
    if verb not in _RUNS:
        raise UserError(f"{run}: {_NOT_A_RUN}")
    for ending in _ENDINGS:
        if (table := run / f"{_RUNS[verb]}{ending}").is_file():
            return table, True
    shown = ", ".join(ending[1:] for ending in _ENDINGS)
    raise UserError(
        f"{run}: holds no table of {_RUNS[verb]}; finish the run, with one of {shown} as --format"
    )


def _windows(table: Path) -> pl.LazyFrame | None:
    """A table with a row a window and a column a class; None where it is another one."""
    suffix = table.suffix.lower()
    try:
        if suffix == ".parquet":
            found = pl.scan_parquet(table)
        elif suffix == ".csv":
            found = pl.scan_csv(table, infer_schema_length=None)
        elif suffix == ".json":
            found = pl.read_json(table).lazy()
        else:
            return None
        names = found.collect_schema()
    except (OSError, pl.exceptions.PolarsError):
        return None  # the reader of annotations says what is wrong
    if not {"path", "start", "end", "clock"} <= set(names):
        return None
    scores = [name for name in names if name not in PLACE]
    if not scores or not all(names[name].is_numeric() for name in scores):
        return None
    return found


def located(
    names: Iterable[str], source: str, folders: Sequence[Path], recordings: Path | None
) -> dict[str, str]:
    """The absolute path of each recording.

    Args:
        names: absolute, or relative to one of the folders.
        source: for messages.
        folders: looked into in this order.
        recordings: a folder in which names are looked up instead; nothing outside it is found.

    Raises:
        UserError: a recording is not there.
    """
    names = list(dict.fromkeys(names))
    if recordings is not None:
        return Recordings(recordings).all(names, source)
    found = {}
    for name in names:
        here = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if here is not None:
            found[name] = os.path.abspath(here)  # noqa: PTH100, symbolic links stay as named
    absent = [name for name in names if name not in found]
    if absent:
        raise UserError(
            f"{source}: {len(absent)} of {len(names)} recordings are not there, the first is "
            f"{absent[0]}; if they have moved, name their folder by --recordings"
        )
    return found
