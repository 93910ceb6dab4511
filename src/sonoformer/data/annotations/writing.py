"""Events as annotations of any format: one table over all recordings, or one for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sonoformer.data.annotations.formats import format_named
from sonoformer.data.annotations.recordings import Recording, table_names
from sonoformer.data.events import events, refuse_bad_events
from sonoformer.errors import UserError


def write_annotations(
    table: pl.DataFrame,
    out: str | Path,
    format: str,
    *,
    recordings: Mapping[str, Recording] | None = None,
) -> list[Path]:
    """Write an events table.

    Args:
        table: an events table.
        out: a file, or a folder (a name without an ending), in which each recording gets a table
            called like itself.
        format: a name of `FORMATS`.
        recordings: facts of the recordings by path, which decide their order in a table over
            several; those without events get an empty table, or a row where the format has one.

    Returns:
        The files written.

    Raises:
        UserError: an unknown format, events that `check_events` calls wrong, several recordings in
            one file of a format that holds one, or a folder that cannot be written.
    """
    kind, out, facts = format_named(format, "--to"), Path(out), recordings or {}
    table = events(table)
    refuse_bad_events(table, f"{out}: nothing was written")
    paths = list(dict.fromkeys([*facts, *table["path"]]))
    if not out.suffix or out.is_dir():
        parts = table.partition_by("path", maintain_order=True, as_dict=True)
        written = []
        for path, name in table_names(paths).items():
            written.append(out / f"{name}{kind.suffix}")
            rows = parts.get((path,), table.clear())
            kind.write(rows, written[-1], {path: facts.get(path, Recording())})
        return written
    if "path" not in kind.holds and len(paths) > 1:
        raise UserError(
            f"{out}: a file of {format} holds one recording, and there are {len(paths)}; name a "
            "folder (without an ending) instead"
        )
    kind.write(table, out, facts)
    return [out]
