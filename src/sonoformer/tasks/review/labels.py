"""Answers of a review as labels, alone or put into a table that is there already."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from sonoformer.data.events import whole
from sonoformer.data.manifest import Manifest
from sonoformer.data.strong import is_weak, tells_reviewed
from sonoformer.errors import UserError
from sonoformer.files import writing
from sonoformer.tasks.review.sheet import Answered, Review

COLUMN = "review"
"""Column of a table of labels: the questions that a row comes from."""
Prefer = Literal["table", "review"]
_SHARE = 0.5  # of a stretch that must be shared for two rows to speak of the same
_INHERITED = ("split", "fold", "group", "recorded_at")


class Conflict(NamedTuple):
    """A row of a table and an answer that say the opposite of one class.

    Attributes:
        row: number of the table's row, from 0.
        column: labels or negatives, where the row has the class.
        label: the class.
        answers: ids of the questions.
        path, start, end: the answer's stretch.
    """

    row: int
    column: str
    label: str
    answers: str
    path: str
    start: float
    end: float

    def __str__(self) -> str:
        table, review = ("present", "absent") if self.column == "labels" else ("absent", "present")
        return (
            f"{self.path}, {self.start:g}-{self.end:g} s: {self.label} is {table} by row "
            f"{self.row + 1} of the table and {review} by {self.answers}"
        )


@dataclass(frozen=True)
class Merged:
    """A table with the answers in it.

    Attributes:
        manifest: the table.
        conflicts: where both say the opposite; what was done about it follows from `prefer`.
        replaced: rows of an earlier import of the same review, which were taken out first.
        in_reviewed: unsure answers inside stretches that the table calls reviewed, in which a class
            that is not named counts as absent all the same.
    """

    manifest: Manifest
    conflicts: tuple[Conflict, ...]
    replaced: int
    in_reviewed: int


def labelled(answers: Sequence[Answered], paths: Mapping[str, str]) -> Manifest:
    """Answers as a table of labels: a row for each stretch of which something was said.

    Confirmed: the class is a label; rejected: a negative; other: a negative, and the others are
    labels; unsure: nothing. Nothing else is known of these stretches, so they are not reviewed.

    Args:
        answers: what was said.
        paths: recordings of the questions -> where they are now.

    Raises:
        UserError: of one stretch a class was confirmed and rejected.
    """
    rows: dict[tuple[Any, ...], dict[str, list[str]]] = {}
    for question, answer, others in answers:
        if answer == "unsure":
            continue
        path = paths[question.path]
        place = (path, question.start, question.end)
        band = (question.low_hz, question.high_hz, question.channel)
        row = rows.setdefault((*place, *band), {"labels": [], "negatives": [], "ids": []})
        row["ids"].append(question.id)
        row["labels" if answer == "confirmed" else "negatives"].append(question.label)
        row["labels"] += others
        if both := sorted(set(row["labels"]) & set(row["negatives"])):
            raise UserError(
                f"{question.id}: {both[0]!r} is said to be there and not to be there, in "
                f"{path} at {question.start:g} s; correct one of {', '.join(row['ids'])}"
            )
    names = ("path", "start", "end", "low_hz", "high_hz", "channel")
    table = pl.DataFrame(
        [
            (*place, list(dict.fromkeys(row["labels"])), list(dict.fromkeys(row["negatives"])),
             False, " ".join(row["ids"]))
            for place, row in rows.items()
        ],
        schema={
            **dict.fromkeys(names, pl.Float64),
            "path": pl.String,
            "channel": pl.Int32,
            "labels": pl.List(pl.String),
            "negatives": pl.List(pl.String),
            "reviewed": pl.Boolean,
            COLUMN: pl.String,
        },
        orient="row",
    )  # fmt: skip
    return Manifest.of(table, "review")


def merged(
    table: Manifest,
    answers: Sequence[Answered],
    paths: Mapping[str, str],
    review: Review,
    prefer: Prefer,
) -> Merged:
    """A table with the labels of a review behind its own rows.

    New rows take split, fold, group and time from the other rows of their recording, so that none
    of a test recording is trained on. Where the table means that its recordings were marked from
    beginning to end and says so nowhere, rows are added that say it: the new ones mean no such
    thing of theirs.

    Args:
        table: the labels there are; a column `review` tells rows of earlier imports.
        answers, paths: as `labelled`.
        review: the record of the export.
        prefer: which side stays where both say the opposite of a stretch.

    Raises:
        UserError: as `labelled`; or the table labels whole files and the answers are about events.
    """
    own = labelled(answers, paths).table
    before = table.table
    if COLUMN in before.columns:
        earlier = (
            pl.col(COLUMN).cast(pl.String).str.starts_with(f"{review.review}-").fill_null(False)
        )
        before = before.filter(~earlier)
    else:
        before = before.with_columns(pl.lit(None, pl.String).alias(COLUMN))
    replaced = len(table) - before.height
    if review.kind == "events":
        before = _with_reviewed(Manifest.of(before, table.source))
    conflicts = _conflicts(before, own)
    if prefer == "table":
        own = _without(own, [(c.answers, c.column, c.label) for c in conflicts])
    else:
        before = _struck(before, conflicts)
    own = _inheriting(own, before)
    joined = pl.concat([before.with_columns(pl.col(COLUMN).cast(pl.String)), own], how="diagonal")
    unsure = [(paths[a.question.path], a.question) for a in answers if a.answer == "unsure"]
    inside = before.filter(pl.col("reviewed")).select("path", "start", "end").rows()
    hidden = sum(
        any(path == p and _overlap(q.start, q.end, s, e) > 0 for p, s, e in inside)
        for path, q in unsure
    )
    return Merged(Manifest.of(joined, table.source), tuple(conflicts), replaced, hidden)


def save(manifest: Manifest, out: Path, review: str) -> Path | None:
    """Write a table of labels, atomically; what it takes the place of is kept beside it.

    Returns:
        The copy of the original; None if there was none. A second import of the same review leaves
        the copy that the first one made.
    """
    kept = out.with_name(f"{out.stem}.before-{review}{out.suffix}")
    there = out.is_file()
    if there and not kept.exists():
        with writing(kept):
            shutil.copy2(out, kept)
    manifest.save(out)
    return kept if there else None


def _with_reviewed(table: Manifest) -> pl.DataFrame:
    """The rows of a table of events, and what it means was listened to."""
    if not table.labelled or tells_reviewed(table):
        return table.table
    if is_weak(table):
        raise UserError(
            f"{table.source}: labels whole files, and the answers are about events in them; import "
            "them into a table of their own"
        )
    rows = Manifest.of(whole(table.paths).with_columns(reviewed=pl.lit(True))).table
    return pl.concat([table.table, _inheriting(rows, table.table)], how="diagonal")


def _conflicts(before: pl.DataFrame, own: pl.DataFrame) -> list[Conflict]:
    """Where a row and an answer say the opposite of a class."""
    rows: dict[str, list[tuple[int, float, float, set[str], set[str]]]] = defaultdict(list)
    columns = ("path", "start", "end", "labels", "negatives")
    for number, (path, start, end, labels, negatives) in enumerate(before.select(columns).rows()):
        stop = float("inf") if end is None else end
        rows[path].append((number, start, stop, set(labels), set(negatives)))
    found = []
    for path, start, end, labels, negatives, ids in own.select(*columns, COLUMN).rows():
        for number, begin, stop, present, absent in rows[path]:
            shared = _overlap(start, end, begin, stop)
            # A label says "somewhere in here", so most of it has to lie in what was rejected.
            if shared >= _SHARE * (stop - begin) and shared > 0:
                for label in sorted(present & set(negatives)):
                    found.append(Conflict(number, "labels", label, ids, path, start, end))
            if shared >= _SHARE * (end - start) and shared > 0:
                for label in sorted(absent & set(labels)):
                    found.append(Conflict(number, "negatives", label, ids, path, start, end))
    return found


def _overlap(start: float, end: float, begin: float, stop: float) -> float:
    return min(end, stop) - max(start, begin)


def _without(own: pl.DataFrame, conflicts: Sequence[tuple[str, str, str]]) -> pl.DataFrame:
    """The answers but for what the table contradicts; rows that say nothing more are left out."""
    against = {"labels": "negatives", "negatives": "labels"}
    out = {(ids, against[column], label) for ids, column, label in conflicts}
    rows = own.to_dicts()
    for row in rows:
        for column in ("labels", "negatives"):
            row[column] = [n for n in row[column] if (row[COLUMN], column, n) not in out]
    kept = [row for row in rows if row["labels"] or row["negatives"]]
    return pl.DataFrame(kept, schema=own.schema)


def _struck(before: pl.DataFrame, conflicts: Sequence[Conflict]) -> pl.DataFrame:
    """The table's rows without the classes that answers contradict."""
    lists = {column: before[column].to_list() for column in ("labels", "negatives")}
    for conflict in conflicts:
        lists[conflict.column][conflict.row] = [
            name for name in lists[conflict.column][conflict.row] if name != conflict.label
        ]
    return before.with_columns(
        pl.Series(name, rows, dtype=pl.List(pl.String)) for name, rows in lists.items()
    )


def _inheriting(own: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """What belongs to a recording as a whole, where the table's rows of it agree."""
    known = before.group_by("path", maintain_order=True).agg(
        pl.when(pl.col(name).drop_nulls().n_unique() == 1)
        .then(pl.col(name).drop_nulls().first())
        .alias(name)
        for name in _INHERITED
    )
    return own.drop(_INHERITED).join(known, on="path", how="left", maintain_order="left")
