"""`sonoformer data convert`: annotations of one tool for another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sonoformer.cli.options import say
from sonoformer.data.annotations import (
    EventColumns,
    Recording,
    facts_of,
    read_class_map,
    read_marks,
    write_annotations,
)
from sonoformer.data.events import check_events
from sonoformer.data.manifest import relative_to

Name = Literal["raven", "audacity", "dcase", "rttm", "csv", "json", "jsonl", "parquet", "textgrid"]


def convert(
    annotations: Path,
    /,
    *,
    to: Annotated[Name, Parameter(help="Format to write.")],
    out: Annotated[
        Path,
        Parameter(help="A file for all recordings, or a folder (no ending) with a file for each."),
    ],
    from_: Annotated[
        Name | Literal["auto"],
        Parameter(name="--from", help="Format to read; auto goes by names and first lines."),
    ] = "auto",
    recordings: Annotated[
        Path | None,
        Parameter(
            help="Folder with the sound: names are looked up in it, times checked against lengths "
            "and clocks, boxes against sample rates."
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        Parameter(help="YAML file of old: new class names; null drops a class, equal names merge."),
    ] = None,
    columns: Annotated[EventColumns, Parameter(name="*")] = EventColumns(),
) -> None:
    """Convert annotations: Raven, Audacity, DCASE, RTTM, Praat TextGrid, CSV, JSON, Parquet.

    Example: sonoformer data convert marks.selections.txt --to audacity --out labels

    Parameters
    ----------
    annotations
        A table, or a folder with a table for each recording.
    """
    mapping = None if classes is None else read_class_map(classes)
    found, empty = read_marks(
        annotations, from_, columns=columns, classes=mapping, recordings=recordings
    )
    for finding in check_events(found):
        say(f"{finding.severity}: {finding}")
    paths = list(dict.fromkeys([*found["path"], *empty]))
    # What a table names is opened only inside the folder that the user names.
    facts = dict.fromkeys(paths, Recording()) if recordings is None else facts_of(paths)
    if recordings is not None:
        # Tables name recordings from their folder on, so that both can be moved.
        folder = recordings.absolute()
        found = found.with_columns(relative_to(folder))
        facts = {path.removeprefix(f"{folder}/"): one for path, one in facts.items()}
    files = write_annotations(found, out, to, recordings=facts)
    where = files[0] if len(files) == 1 else f"{len(files)} files in {out}"
    classes_found = found["label"].n_unique()
    say(f"{where}: events {found.height}, classes {classes_found}, recordings {len(paths)}")
