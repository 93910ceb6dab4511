"""How verbs read a table of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.data.columns import ColumnMap
from sonoformer.data.manifest import Manifest

Columns = Annotated[ColumnMap, Parameter(name="*")]
Separator = Annotated[
    str | None, Parameter(help="What stands between several labels of one cell, such as ';'.")
]
Root = Annotated[
    Path | None, Parameter(help="Folder that relative paths start from; the table's if absent.")
]


def read_labels(
    path: Path, columns: ColumnMap, separator: str | None, root: Path | None
) -> Manifest:
    """The table named on the command line; the user's own absolute paths are taken as they are."""
    return Manifest.read(path, columns=columns, separator=separator, root=root, allow_absolute=True)
