"""The table that a person fills in: what each row asks, and what was answered."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sonoformer.data.annotations.text import decimal, read_text, rectangle
from sonoformer.errors import UserError, brief, nearest
from sonoformer.files import read_json, write_json, write_text
from sonoformer.settings import build

SHEET = "review.csv"
RECORD = "review.json"
ASKED = ("id", "clip", "label", "score", "recording", "start", "end")
"""Columns of the sheet that tell what is asked."""
FILLED = ("answer", "other", "note")
"""Columns of the sheet that are filled in."""
Answer = Literal["confirmed", "rejected", "other", "unsure"]
_WORDS: dict[str, Answer] = {
    **dict.fromkeys(("confirmed", "c", "yes", "y", "1", "true"), "confirmed"),
    **dict.fromkeys(("rejected", "r", "no", "n", "0", "false"), "rejected"),
    **dict.fromkeys(("other", "o"), "other"),
    **dict.fromkeys(("unsure", "u", "?", "unknown"), "unsure"),
}


@dataclass(frozen=True)
class Question:
    """Whether a class is heard in a stretch of a recording.

    Attributes:
        id: the review's and the question's own number.
        clip: file with the sound, relative to the folder of the review.
        path: the recording.
        start, end: seconds in it.
        label: the class.
        score: that the model gave.
        low_hz, high_hz, channel: of the stretch, where known.
    """

    id: str = ""
    clip: str = ""
    path: str = ""
    start: float = 0.0
    end: float = 0.0
    label: str = ""
    score: float = 0.0
    low_hz: float | None = None
    high_hz: float | None = None
    channel: int | None = None


@dataclass(frozen=True)
class Review:
    """What was exported: the record that answers are matched with.

    Attributes:
        review: its id.
        kind: events of recordings, or windows that are classified as clips.
        questions: in the order of the sheet.
    """

    review: str = ""
    kind: Literal["events", "windows"] = "events"
    questions: tuple[Question, ...] = ()

    def write(self, folder: Path) -> None:
        """Leave the record and an empty sheet in a folder, the sheet last."""
        write_json(folder / RECORD, asdict(self))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*ASKED[:4], *FILLED, *ASKED[4:]])
        for one in self.questions:
            times = [decimal(round(value, 3)) for value in (one.start, one.end)]
            score = decimal(round(one.score, 4))
            writer.writerow([one.id, one.clip, one.label, score, "", "", "", one.path, *times])
        write_text(folder / SHEET, text.getvalue())

    @classmethod
    def read(cls, folder: Path) -> Review:
        """The record of a folder.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = folder / RECORD
        if not path.is_file():
            raise UserError(
                f"{folder}: holds no {RECORD}; name the folder that `sonoformer review export` "
                "wrote, by --review if the filled table lies elsewhere"
            )
        values: Any = read_json(path)
        review = build(cls, values, str(path))
        for one in review.questions:
            if not (0 <= one.start < one.end < float("inf") and one.path and one.label.strip()):
                raise UserError(f"{path}: {one.id}: is no stretch of a recording; export it again")
        return review


class Answered(NamedTuple):
    """A question and what was said of it."""

    question: Question
    answer: Answer
    others: tuple[str, ...]


def read_answers(table: Path, review: Review) -> tuple[list[Answered], int]:
    """The answers in a filled sheet, as spreadsheets save it, and how many rows are still empty.

    Only `id`, `answer` and `other` are read; what is asked comes from the record.

    Raises:
        UserError: no such columns; a row of another review, an unknown word, or two answers to one
            question that differ.
    """
    rows, source = _rows(table), str(table)
    asked = {one.id: one for one in review.questions}
    found: dict[str, Answered] = {}
    for number, row in enumerate(rows, 1):
        name = row["id"].strip()
        if not name and not any(value.strip() for value in row.values()):
            continue
        if name not in asked:
            raise UserError(
                f"{source}: row {number}: {brief(name)!r} is no question of review "
                f"{review.review}; give the table that was exported with it"
            )
        said = _answer(row, asked[name], f"{source}: row {number}")
        if said is None:
            continue
        if found.setdefault(name, said) != said:
            raise UserError(f"{source}: row {number}: {name} is answered twice, and differently")
    return list(found.values()), len(review.questions) - len(found)


def _answer(row: Mapping[str, str], question: Question, where: str) -> Answered | None:
    word, other = row["answer"].strip().lower(), row["other"].strip()
    if not word and not other:
        return None
    if word and word not in _WORDS:
        known = ("confirmed", "rejected", "other", "unsure")
        raise UserError(
            f"{where}: answer {brief(word)!r} is none of {', '.join(known)}.{nearest(word, known)}"
        )
    # A class in the column for others says all.
    answer = _WORDS[word] if word else "other"
    names = tuple(dict.fromkeys(part.strip() for part in other.split(";") if part.strip()))
    if answer == "other" and not names:
        raise UserError(f"{where}: answer other, but the column other names no class")
    if answer != "other" and names:
        raise UserError(
            f"{where}: answer {answer}, but the column other names {names[0]!r}; say other, or "
            "empty one of them"
        )
    if question.label in names:
        raise UserError(
            f"{where}: other names {question.label!r}, which is what was asked; say confirmed"
        )
    return Answered(question, answer, names)


def _rows(table: Path) -> Sequence[Mapping[str, str]]:
    text = read_text(table)
    first = text.split("\n", 1)[0]
    mark = max(",;\t", key=first.count)
    try:
        cells = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except csv.Error as error:
        raise UserError(f"{table}: cannot be read as a table ({error}); was it cut off?") from None
    header, body = rectangle([row for row in cells if row], text, str(table))
    for name in ("id", "answer", "other"):
        if name not in header:
            raise UserError(
                f"{table}: has no column {name!r}; give the {SHEET} of a review, filled in"
            )
    return [dict(zip(header, row, strict=True)) for row in body]
