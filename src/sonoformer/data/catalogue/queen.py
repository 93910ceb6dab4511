"""Reader of the resource file of the game Flight of the Amazon Queen (`queen.1c`).

The file begins with its own index: "QTBL", a version of 6 bytes, 2 bytes, the compression (1: the
speech is MP3), the number of entries (16 bit, big end first), and for every entry a name of 12
bytes, the bundle, offset and size (32 bit). Speech is in `.SB` entries. The name of a line of
dialogue is `KKhhhhWn.SB`: the dialogue's key in two digits, the line in four, who speaks (`J` the
hero, `P` the other person) and the part of the sentence. Which dialogue has which key stands in the
`.DOG` entries, one a dialogue, named after the person (`SPARKY3.DOG`).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from sonoformer.errors import UserError

_MP3 = 1
_LINE = re.compile(r"^(\d\d).{4}([JP]).\.SB$")
HERO = "joe"


@dataclass(frozen=True)
class Line:
    """One spoken line."""

    name: str
    data: bytes
    """an MP3 file"""
    character: str | None
    """who speaks, in lower case; None where the file does not tell"""
    dialogue: str | None
    """name of the dialogue, such as sparky3"""


def read_lines(path: str | Path) -> list[Line]:
    """All spoken lines of `queen.1c`, in file order.

    Raises:
        UserError: the file is another version or is damaged.
    """
    data = Path(path).read_bytes()
    if data[:4] != b"QTBL" or len(data) < 15 or data[12] != _MP3:
        raise UserError(f"{path}: not the compressed resource file with speech as MP3")
    (count,) = struct.unpack_from(">H", data, 13)
    entries = {}
    for index in range(count):
        name, _, offset, size = struct.unpack_from(">12sBII", data, 15 + 21 * index)
        if offset + size > len(data):
            raise UserError(f"{path}: the file is cut short")
        entries[name.split(b"\0")[0].decode("latin-1")] = data[offset : offset + size]
    dialogues = _dialogues(entries)
    lines = []
    for name, body in entries.items():
        if not name.endswith(".SB"):
            continue
        match = _LINE.match(name)
        dialogue = dialogues.get(match[1]) if match else None
        character = None
        if match and dialogue:
            character = HERO if match[2] == "J" else re.sub(r"\d+$", "", dialogue)
        elif name.startswith("JOE"):
            character = HERO
        lines.append(Line(name.removesuffix(".SB"), body, character, dialogue))
    return lines


def _dialogues(entries: dict[str, bytes]) -> dict[str, str]:
    """Key of a dialogue, two digits -> its name."""
    found = {}
    for name, body in entries.items():
        if name.endswith(".DOG") and len(body) >= 26:
            (key,) = struct.unpack_from(">h", body, 24)  # after a 20-byte bank header and 2 fields
            found[f"{key:02d}"] = name.removesuffix(".DOG").lower()
    return found
