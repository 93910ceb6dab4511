"""The table of recordings and labels that everything else starts from.

A row is a stretch of a recording, labelled or not. The class is a thin shell around a polars table:
reading lives in `reading`, checking in `checks`, splitting in `splits`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from sonoformer.data.columns import SCHEMA, ColumnMap, flag
from sonoformer.errors import UserError
from sonoformer.files import atomic

if TYPE_CHECKING:
    from sonoformer.data.checks import Finding


@dataclass(frozen=True)
class Manifest:
    """Stretches of recordings with what is known about them.

    Columns of `table` (null where not known); further columns of the user's table are kept behind:

    - `path`: the audio file, absolute;
    - `start`, `end`: seconds in the file; a null `end` means the end of the file;
    - `low_hz`, `high_hz`: the band of the labelled sound;
    - `channel`: counted from 0; null means the mean of all channels;
    - `labels`: classes that are present; `negatives`: classes that were looked for and are absent;
    - `reviewed`: whether every class that is in neither list is known to be absent. An unlabelled
      class is *not* a negative outside reviewed stretches: loss and metrics ignore it there.
      Tables of labelled clips count as reviewed unless a column says otherwise;
    - `weight`: sampling weight; `split`: train, validation or test; `fold`; `group`: what has to
      stay on one side of a split; `recorded_at`: local time at which the file begins.
    """

    table: pl.DataFrame
    source: str = "manifest"
    """where the rows come from, for messages"""
    classes_given: tuple[str, ...] | None = None
    """class list that came with the data (a folder per class may hold empty classes)"""

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        columns: ColumnMap = ColumnMap(),
        separator: str | None = None,
        root: str | Path | None = None,
        allow_absolute: bool = False,
    ) -> Manifest:
        """Read a CSV or TSV table, a Parquet table, a list of files (.txt), or a folder per class.

        Raven tables (.selections.txt), RTTM, TextGrid and DCASE's strong labels (.tsv) are read as
        annotations of whole recordings, which are looked for in `root`; see `annotations`.

        Args:
            path: the table, list or folder.
            columns: names of the table's columns; the usual ones are found by themselves.
            separator: what stands between several labels of one row (";"); without it the whole
                cell is one label.
            root: folder that relative paths start from; default: the folder of the table. Naming it
                also allows paths that climb out of it by "..".
            allow_absolute: accept absolute paths that lie outside `root`.

        Raises:
            UserError: the table cannot be read, a column is missing or ambiguous, a value is no
                number, or a path is absolute or leaves the folder.
        """
        from sonoformer.data.reading import read_manifest

        return read_manifest(
            Path(path), columns, separator, None if root is None else Path(root), allow_absolute
        )

    @classmethod
    def from_files(cls, paths: Iterable[str | Path], source: str = "files") -> Manifest:
        """Unlabelled whole files, one row each."""
        return cls.of(pl.DataFrame({"path": [str(p) for p in paths]}), source)

    @classmethod
    def of(cls, table: pl.DataFrame, source: str = "manifest") -> Manifest:
        """A manifest of a table that already has our column names; absent columns become null.

        Raises:
            UserError: `path` is missing or a column cannot be converted to its type.
        """
        if "path" not in table.columns:
            raise UserError(f"{source}: no column 'path'")
        rest = [name for name in table.columns if name not in SCHEMA]
        try:
            known = [
                pl.col(name).cast(dtype) if name in table.columns else _absent(name, dtype)
                for name, dtype in SCHEMA.items()
            ]
            table = table.select(*known, *rest)
        except pl.exceptions.PolarsError as error:
            raise UserError(f"{source}: {str(error).splitlines()[0]}") from error
        table = table.with_columns(
            pl.col("start").fill_null(0.0),
            pl.col("labels").fill_null([]),
            pl.col("negatives").fill_null([]),
        )
        table = table.with_columns(
            pl.col("reviewed").fill_null(pl.col("labels").list.len() > 0),
        )
        return cls(table, source)

    def __len__(self) -> int:
        return self.table.height

    @property
    def paths(self) -> list[str]:
        """The path of every row."""
        return self.table["path"].to_list()

    @property
    def files(self) -> list[str]:
        """The different files, in order of first appearance."""
        return self.table["path"].unique(maintain_order=True).to_list()

    @property
    def labelled(self) -> bool:
        """Whether any row has a label or a negative."""
        either = pl.col("labels").list.len() + pl.col("negatives").list.len() > 0
        return bool(self.table.select(either.any()).item())

    @property
    def multi_label(self) -> bool:
        """Whether any row has more than one label."""
        return bool(self.table.select((pl.col("labels").list.len() > 1).any()).item())

    @property
    def classes(self) -> tuple[str, ...]:
        """The class list that came with the data, or the labels and negatives in sorted order.

        Labels that are all whole numbers are sorted as numbers.
        """
        if self.classes_given is not None:
            return self.classes_given
        names = pl.concat([self.table["labels"].explode(), self.table["negatives"].explode()])
        return tuple(natural(names.drop_nulls().unique().to_list()))

    def values(self, column: str) -> list[str]:
        """The different values of a text column, numbers in numeric order, without null."""
        return natural(self.table[column].cast(pl.String).drop_nulls().unique().to_list())

    def where(self, predicate: pl.Expr | pl.Series) -> Manifest:
        """The rows for which `predicate` holds; the class list stays as it is here."""
        return replace(self, table=self.table.filter(predicate), classes_given=self.classes)

    def take(self, rows: Iterable[int]) -> Manifest:
        """The given rows in the given order."""
        return replace(self, table=self.table[list(rows)], classes_given=self.classes)

    def with_columns(self, *columns: pl.Expr | pl.Series) -> Manifest:
        """Columns added or replaced."""
        return replace(self, table=self.table.with_columns(*columns))

    def with_classes(self, classes: Iterable[str]) -> Manifest:
        """The same rows with a class list given, for example a trained model's."""
        return replace(self, classes_given=tuple(classes))

    def require_labels(self) -> Manifest:
        """Itself, if it has labels.

        Raises:
            UserError: it has none; the sentence lists the columns that could hold them.
        """
        if self.labelled:
            return self
        rest = [name for name in self.table.columns if name not in SCHEMA]
        hint = f" (other columns: {', '.join(rest)})" if rest else ""
        raise UserError(
            f"{self.source}: no labels; name the column that holds them by {flag('labels')}{hint}"
        )

    def check(self, classes: Iterable[str] | None = None, *, probe: bool = False) -> list[Finding]:
        """What is wrong with the table, as a list; see `checks.check_manifest`."""
        from sonoformer.data.checks import check_manifest

        return check_manifest(self, None if classes is None else tuple(classes), probe=probe)

    def save(self, path: str | Path) -> None:
        """Write as CSV (labels joined by ";") or Parquet, by the suffix, atomically.

        Paths inside the table's folder are written relative to it, so that the folder can move.
        Reading a CSV back takes `separator=";"`.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        path = Path(path)
        table = self.table.with_columns(relative_to(path.absolute().parent))
        with atomic(path) as temporary:
            if path.suffix.lower() == ".parquet":
                table.write_parquet(temporary)
                return
            joined = [pl.col(name).list.join(";") for name in ("labels", "negatives")]
            table = table.with_columns(*joined)
            table.drop(_says_nothing(table)).write_csv(temporary)


def relative_to(folder: Path, column: str = "path") -> pl.Expr:
    """The paths of a column relative to `folder` where they lie inside it."""
    prefix = str(folder).rstrip("/\\") + "/"
    inside = pl.col(column).str.starts_with(prefix)
    return pl.when(inside).then(pl.col(column).str.slice(len(prefix))).otherwise(pl.col(column))


def natural(names: Iterable[str]) -> list[str]:
    """Sorted; as numbers if all are whole numbers."""
    found = list(names)
    numeric = all(name.lstrip("-").isdecimal() for name in found)
    return sorted(found, key=int) if numeric else sorted(found)


def _absent(name: str, dtype: pl.DataType) -> pl.Expr:
    return pl.lit(None, dtype=dtype).alias(name)


def _says_nothing(table: pl.DataFrame) -> list[str]:
    """Columns of ours that a reader would fill in by itself, so that a CSV stays short."""
    default: dict[str, object] = {"start": 0.0, "labels": "", "negatives": ""}
    if bool((table["labels"] == "").all()):
        default["reviewed"] = False
    return [
        name
        for name in SCHEMA
        if name != "path"
        and (
            table[name].null_count() == table.height
            or (name in default and bool((table[name] == default[name]).all()))
        )
    ]
