"""RTTM (NIST Rich Transcription): a SPEAKER line an event, as diarisation and PartialSpoof have it.

Fields, parted by blanks: SPEAKER, recording, channel (from 1), onset, duration, <NA>, <NA>, class,
confidence, <NA>.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.columns import EventColumns, events_from, frame
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import decimal, minus, track
from sonoformer.errors import UserError, brief
from sonoformer.files import write_text

_NAMES = ("path", "channel", "start", "duration", "label", "score")
_PLACES = (1, 2, 3, 4, 7, 8)


def read(path: Path, columns: EventColumns) -> Marks:
    """The SPEAKER lines; lines of other types and comments (`;;`) say nothing of events.

    Raises:
        UserError: a SPEAKER line has too few fields, or a field is no number.
    """
    rows = []
    for number, line in enumerate(track(path).split("\n"), 1):
        parts = line.split()
        if not parts or parts[0] != "SPEAKER":
            continue
        if len(parts) < 8:
            raise UserError(
                f"{path}: line {number}: {brief(line, 60)!r} has {len(parts)} fields where a "
                "SPEAKER line has 10; was the file cut off?"
            )
        parts += ["<NA>"] * 2
        rows.append([parts[place] for place in _PLACES])
    if not rows and path.stat().st_size:
        raise UserError(f"{path}: has no SPEAKER line")
    table = frame(list(_NAMES), rows, str(path))
    names = {name: name for name in _NAMES}
    return Marks(events_from(table, names, str(path), first_channel=1))


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write the events; blanks in classes become underscores.

    Raises:
        UserError: a recording's name has a blank, which ends a field.
    """
    lines = []
    for row in table.iter_rows(named=True):
        name = row["path"]
        if re.search(r"\s", name):
            raise UserError(f"{name!r}: RTTM cannot hold a file name with blanks; rename the file")
        start = decimal(row["start"])
        score = "<NA>" if row["score"] is None else decimal(row["score"])
        lines.append(
            f"SPEAKER {name} {(row['channel'] or 0) + 1} {start} "
            f"{minus(decimal(row['end']), start)} <NA> <NA> "
            f"{_joined(row['label'])} {score} <NA>\n"
        )
    write_text(path, "".join(lines))


def _joined(label: str) -> str:
    return "_".join(label.split())
