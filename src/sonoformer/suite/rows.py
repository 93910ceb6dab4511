"""Rows of the suite's table: stored one by one, written together as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from sonoformer.errors import UserError
from sonoformer.evaluation.statistics import Interval
from sonoformer.files import read_json, write_json, write_text
from sonoformer.suite.heard import Heard

FLOORS = ("svm", "linear on log-mels", "mlp on log-mels")
"""What a floor's `probe` may be; its `encoder` is empty."""


@dataclass(frozen=True)
class Row:
    """What one system is worth on one task.

    Attributes:
        task, protocol: what was asked.
        encoder: name of the checkpoint; empty for a floor.
        weights: pretrained, random, or none for a floor.
        probe: how the encoder was judged, `finetune`, or the floor's name.
        metric: the headline score.
        value, low, high: score and its 95 % interval; None if it failed or cannot be given.
        over: what the interval draws.
        seeds: number of probes.
        chance: score of a constant answer.
        floor: the floor's score; None if it was not measured.
        heard: whether pretraining heard the test clips.
        clips, tested, classes: counts; `tested` are frames in a framewise task.
        copies: training clips left out as copies of test clips.
        parts: what was tested -> score there, mean over seeds.
        problem: why there is no score; empty if there is one.
        key: of all that the row depends on.
    """

    task: str
    protocol: str
    encoder: str
    weights: str
    probe: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    over: str = ""
    seeds: int = 1
    chance: float | None = None
    floor: float | None = None
    heard: Heard = "unknown"
    clips: int = 0
    tested: int = 0
    classes: int = 0
    copies: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        """A file name of its own."""
        parts = (self.task, self.encoder, self.weights, self.probe, self.protocol)
        return "--".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts if part)

    @property
    def system(self) -> str:
        """The row's column in the Markdown table."""
        if not self.encoder:
            return self.probe
        told = f"{self.encoder}, {self.probe}"
        return f"{told}, random weights" if self.weights == "random" else told

    def __str__(self) -> str:
        if self.value is None:
            return "failed"
        return str(Interval(self.value, self.low, self.high))


def store(folder: Path, row: Row) -> None:
    """Keep a finished row, so that it is not computed again."""
    write_json(folder / f"{row.name}.json", asdict(row))


def stored(folder: Path, row: Row) -> Row | None:
    """The row of that name and key, if it was finished before."""
    path = folder / f"{row.name}.json"
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        names = {f.name for f in fields(Row)}
        found = Row(**{name: value for name, value in values.items() if name in names})
    except (UserError, TypeError, AttributeError):
        return None  # cut short by a crash: computed again
    return found if found.key == row.key and found.value is not None else None


def write_tables(folder: Path, rows: Sequence[Row], skipped: Sequence[str], title: str) -> None:
    """Write `table.csv`, `table.json` and `table.md`."""
    text = io.StringIO()
    names = [f.name for f in fields(Row) if f.name != "key"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = asdict(row)
        writer.writerow(
            json.dumps(values[n], ensure_ascii=False) if n == "parts" else values[n] for n in names
        )
    write_text(folder / "table.csv", text.getvalue())
    write_json(folder / "table.json", {"rows": [asdict(r) for r in rows], "skipped": list(skipped)})
    write_text(folder / "table.md", markdown(rows, skipped, title))


def markdown(rows: Sequence[Row], skipped: Sequence[str], title: str) -> str:
    """A line a task, a column a system, floors and chance first."""
    systems = list(dict.fromkeys(row.system for row in rows))
    systems.sort(key=lambda system: FLOORS.index(system) if system in FLOORS else len(FLOORS))
    lines = [f"# {title}", ""]
    lines.append("| task | score | chance | " + " | ".join(systems) + " |")
    lines.append("|---|---|---|" + "---|" * len(systems))
    for task in dict.fromkeys(row.task for row in rows):
        own = {row.system: row for row in rows if row.task == task}
        first = next((row for row in own.values() if row.chance is not None), None)
        chance = "" if first is None else f"{first.chance:.3f}"
        metric = next(iter(own.values())).metric.replace("_", " ")
        cells = [_cell(own[system]) if system in own else "" for system in systems]
        lines.append(f"| {task} | {metric} | {chance} | " + " | ".join(cells) + " |")
    notes = []
    if any(row.heard == "transductive" for row in rows):
        notes.append("(t) transductive: pretraining heard the test clips, without labels.")
    if any(row.heard == "unknown" for row in rows):
        notes.append("(?) the checkpoint does not say what its pretraining heard.")
    notes += [f"{row.task}, {row.system}: {row.problem}" for row in rows if row.problem]
    notes += [f"left out: {text}" for text in skipped]
    return "\n".join([*lines, "", *[f"- {note}" for note in notes]]).rstrip() + "\n"


def _cell(row: Row) -> str:
    mark = {"transductive": " (t)", "unknown": " (?)"}.get(row.heard, "")
    return f"{row}{mark if row.value is not None else ''}"
