"""Names of the classes of a published classifier, from the lists that their authors give out."""

from __future__ import annotations

import csv
from pathlib import Path

from sonoformer.errors import UserError

_COLUMNS = ("display_name", "name", "label", "class")


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The names in a `.txt` (a name a line) or `.csv` file (column display_name, name, label or
    class; ordered by the column index, if there is one).

    Raises:
        UserError: the file cannot be read, or holds no names.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from None
    names = _column(path, text) if path.suffix.lower() == ".csv" else text.splitlines()
    names = [name.strip() for name in names]
    if not names or not all(names):
        raise UserError(f"{path}: holds {'an empty name' if names else 'no names'}")
    return tuple(names)


def _column(path: Path, text: str) -> list[str]:
    rows = list(csv.DictReader(text.splitlines()))
    columns = rows[0].keys() if rows else ()
    name = next((column for column in _COLUMNS if column in columns), None)
    if name is None:
        raise UserError(f"{path}: has no column {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}")
    if "index" in columns:
        numbers = [row["index"] or "" for row in rows]
        if {*numbers} != {str(number) for number in range(len(rows))}:
            raise UserError(f"{path}: its column index does not count 0 to {len(rows) - 1}")
        rows.sort(key=lambda row: int(row["index"]))
    return [row[name] or "" for row in rows]
