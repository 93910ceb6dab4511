"""Reader of Hydrogen drum kits (`drumkit.xml`): which file is which drum."""

from __future__ import annotations

import re
from pathlib import Path
from xml.parsers import expat

from sonoformer.errors import UserError

CLASSES: tuple[tuple[str, str], ...] = (
    ("clap", r"clap"),
    ("rim", r"side stick|\bstick|rim ?click"),
    ("hihat-closed", r"closed h|hat.*\bcl"),
    ("hihat-pedal", r"pedal h|hat.*(pedal|\bpd)"),
    ("hihat-open", r"open h|hat.*(\bop|semi-?open|free)"),
    ("kick", r"kick|bass ?drum"),
    ("snare", r"snare(?!.*roll)"),
    ("tom", r"\btom"),
    ("ride", r"ride"),
    ("crash", r"crash|splash|china"),
)
"""Class and the pattern of the instrument names that are of it; the first match counts."""

_BOTH = re.compile(r"ride.?crash|crash.?ride")


def drum_class(name: str) -> str | None:
    """Class of an instrument by the name that the kit's author gave it; None if it is unclear."""
    lower = name.lower()
    if _BOTH.search(lower):
        return None
    return next((label for label, pattern in CLASSES if re.search(pattern, lower)), None)


def read_kit(path: str | Path) -> list[tuple[str, str]]:
    """(file name, instrument name) of every layer of a kit, in file order.

    The file is parsed without document type definitions, so no entity can be defined or fetched.

    Raises:
        UserError: the file is not XML, or it defines entities.
    """
    found: list[tuple[str, str]] = []
    stack: list[str] = []
    state = {"instrument": "", "text": ""}

    def start(tag: str, attributes: dict[str, str]) -> None:
        stack.append(tag.rsplit(":", 1)[-1])
        state["text"] = ""

    def text(data: str) -> None:
        state["text"] += data

    def end(tag: str) -> None:
        inner = stack.pop()
        value = state["text"].strip()
        if inner == "name" and stack and stack[-1] == "instrument":
            state["instrument"] = value
        elif inner == "filename" and value:
            found.append((value, state["instrument"]))
        state["text"] = ""

    def doctype(*_: object) -> None:
        raise UserError(f"{path}: has a document type definition; refused")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, doctype
    try:
        parser.Parse(Path(path).read_bytes(), True)
    except (OSError, expat.ExpatError) as error:
        raise UserError(f"{path}: cannot be read as XML ({error})") from error
    return found
