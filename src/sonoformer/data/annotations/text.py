"""Tables as other programs write them: their encodings, their numbers, their cells."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from pathlib import Path

import numpy as np

from sonoformer.errors import UserError, brief

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_SPACE = re.compile(r"[\x00-\x1f]+")
_EXACT = Context(prec=1200)
"""Digits in which any two 64-bit numbers are added exactly."""

BLANK = ("", "na", "n/a", "nan", "null", "none", "<na>", "-")
"""What stands in a cell of numbers that holds none, in lower case."""


def read_text(path: Path) -> str:
    """A text file in UTF-8, UTF-16 or Windows' code page, its line ends made `\\n`.

    UTF-16 is told by its mark or, without one, by its zeros; what is no UTF-8 is taken for
    Windows-1252, as older programs in western Europe and America write it.

    Raises:
        UserError: the file cannot be read, is empty, or is no text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not data.strip():
        raise UserError(f"{path}: is empty")
    text = _decoded(data)
    if text is None or _CONTROL.search(text):
        raise UserError(f"{path}: is binary, not a table of text; name its format by --from")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def track(path: Path) -> str:
    """As `read_text` for formats without a header, in which a file without events is empty."""
    return "" if path.is_file() and not path.stat().st_size else read_text(path)


def _decoded(data: bytes) -> str | None:
    """The text, or nothing where it is none."""
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        if b"\0" in data[:4096]:
            # Letters of our alphabets have a zero in the upper byte.
            low, high = data[:4096:2].count(0), data[1:4096:2].count(0)
            return data.decode("utf-16-le" if high > low else "utf-16-be")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return None
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decimal(value: float | None) -> str:
    """The shortest decimal without an exponent that reads back as the same number; "" for null."""
    return "" if value is None else np.format_float_positional(value, trim="0")


def plus(first: str, second: str) -> str:
    """The exact sum of two decimals."""
    return f"{_EXACT.add(Decimal(first), Decimal(second)):f}"


def minus(first: str, second: str) -> str:
    """The exact difference of two decimals."""
    return f"{_EXACT.subtract(Decimal(first), Decimal(second)):f}"


def numbers(cells: list[str], source: str, name: str) -> list[str | None]:
    """The cells of a column as decimals with a point, null where blank.

    A comma is a decimal comma, in a column without decimal points.

    Raises:
        UserError: a cell is no number, or the column has both points and commas.
    """
    kept = [cell.strip() for cell in cells]
    found: list[str | None] = [None if cell.lower() in BLANK else cell for cell in kept]
    commas = [cell for cell in found if cell is not None and "," in cell]
    if commas and any(cell is not None and "." in cell for cell in found):
        raise UserError(
            f"{source}: column {name!r} has decimal points and commas ({brief(commas[0])!r}); "
            "write all numbers with a point"
        )
    for row, cell in enumerate(found, 1):
        if cell is None:
            continue
        found[row - 1] = cell = cell.replace(",", ".") if cell.count(",") == 1 else cell
        if not _is_number(cell):
            raise UserError(f"{source}: row {row}: {name} {brief(cell)!r} is not a number")
    return found


def _is_number(text: str) -> bool:
    if "_" in text:  # which Python would take
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def cell(text: str) -> str:
    """Text as it stands in a cell: on one line, without tabs, without space at the ends."""
    return _SPACE.sub(" ", text).strip()


def fields(text: str, source: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table whose cells are parted by tabs and never quoted.

    Raises:
        UserError: see `rectangle`.
    """
    rows = [line.split("\t") for line in text.split("\n") if line.strip()]
    return rectangle(rows, text, source)


def rectangle(rows: list[list[str]], text: str, source: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows, each as long as the header; empty cells at a row's end may be left away.

    Raises:
        UserError: there is no header, a row is too long, or the last one ends in its middle.
    """
    if not rows:
        raise UserError(f"{source}: is empty")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    for number, row in enumerate(body, 1):
        if any(cell.strip() for cell in row[len(header) :]):
            raise UserError(
                f"{source}: row {number} has {len(row)} cells under {len(header)} columns; is "
                "a separator missing in the header, or one too many in the row?"
            )
    if body and len(body[-1]) < len(header) and not text.endswith("\n"):
        raise UserError(f"{source}: the last row ends in its middle; the file was cut off")
    return header, [(row + [""] * len(header))[: len(header)] for row in body]
