"""From candidates to a folder for a person: clips, a page to look at, and a table to fill in."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from sonoformer.audio import Channel, probe, read_native, write
from sonoformer.data.manifest import Manifest
from sonoformer.errors import AudioError, UserError
from sonoformer.evaluation.report import Example, Examples, Mark, Report, Section, Verdict
from sonoformer.files import inside
from sonoformer.tasks.review.candidates import Candidates
from sonoformer.tasks.review.pick import PickConfig, Spans, picked
from sonoformer.tasks.review.sheet import SHEET, Question, Review

_LETTERS = 40  # of a class in the name of a file
_PAGE = 100_000_000  # bytes, above which clips are heard from their files only


@dataclass(frozen=True)
class ClipConfig:
    """What is written of each stretch."""

    margin: float = 1.0
    """Seconds of sound before and after it."""
    longest: float = 30.0
    """Longest clip in seconds; of longer stretches the beginning is written."""
    clips: Literal["flac", "wav"] = "flac"
    """Format of the clips, at the recording's own rate."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise UserError(f"margin: must be 0 seconds or more; got {self.margin}.")
        if not 0 < self.longest < math.inf:
            raise UserError(f"longest: must be above 0 seconds; got {self.longest}.")


def export_review(
    candidates: Candidates,
    out: Path,
    config: PickConfig = PickConfig(),
    clips: ClipConfig = ClipConfig(),
    *,
    seed: int = 0,
    recordings: Path | None = None,
    known: Manifest | None = None,
    problem: Callable[[str, str], None] | None = None,
) -> Review:
    """Choose stretches and write `clips/`, a page for each class, `review.csv` and `review.json`.

    The same candidates, options and seed give the same review.

    Args:
        candidates: what can be asked.
        out: the folder.
        config: what is asked.
        clips: what is written of it.
        seed: of draws.
        recordings: folder in which recordings are looked up by name.
        known: a table of labels; what it says of a class is not asked again.
        problem: called with (path, reason) for a recording that cannot be read; its stretches are
            left out.

    Raises:
        UserError: nothing to ask, or recordings that are not there.
    """
    said = _said(known)
    parts = []
    for name in candidates.chosen(config.classes):
        found = candidates.of(name)
        spans: Spans = {}
        if known is not None:
            paths = candidates.located(found["path"], recordings)
            spans = _by_name(said.get(name, {}), paths)
        parts.append(picked(found, config, seed, spans))
    chosen = pl.concat(parts)
    if chosen.is_empty():
        raise UserError(f"{candidates.source}: holds nothing to ask about")
    paths = candidates.located(chosen["path"], recordings)
    review = _review(chosen, paths, config, seed, clips.clips)
    review = replace(review, kind="windows" if candidates.windows else "events")
    kept: list[Question] = []
    for number, label in enumerate(chosen["label"].unique(maintain_order=True)):
        asked = [question for question in review.questions if question.label == label]
        kept += _one_class(asked, out, clips, f"review-{number + 1}-{_plain(label)}.html", problem)
    if not kept:
        raise UserError(f"{candidates.source}: none of the recordings can be read")
    review = replace(review, questions=tuple(kept))
    review.write(out)
    return review


def _one_class(
    asked: Sequence[Question],
    out: Path,
    clips: ClipConfig,
    page: str,
    problem: Callable[[str, str], None] | None,
) -> list[Question]:
    """Write the clips of a class and its page; gives the questions whose sound can be read."""
    kept, examples = [], []
    for question in asked:
        try:
            examples.append(_written(question, out, clips))
        except AudioError as error:
            if problem is not None:
                problem(str(error.path), error.reason)
            continue
        kept.append(question)
    if kept:
        title = f"{kept[0].label}: is it heard where the bar is?"
        lead = f"{len(kept)} clips. Listen, and write into {SHEET} beside this page."
        longest = max(len(example.wave) / example.sample_rate for example in examples)
        report = Report(title, lead, max_bytes=_PAGE)
        report.add(Section("Clips", [Examples(examples, seconds=longest)])).write(out / page)
    return kept


def _review(
    chosen: pl.DataFrame, paths: dict[str, str], config: PickConfig, seed: int, ending: str
) -> Review:
    """Questions with numbers and names of clips; the id follows from what is asked."""
    columns = ("path", "start", "end", "label", "score", "low_hz", "high_hz", "channel")
    rows = chosen.select(columns).rows()
    rows = [(paths[path], *rest) for path, *rest in rows]
    text = json.dumps([rows, config.pick, seed])
    name = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    digits = max(3, len(str(len(rows))))
    questions = [
        Question(
            f"{name}-{number:0{digits}}",
            f"clips/{number:0{digits}}-{_plain(row[3])}.{ending}",
            *row,
        )
        for number, row in enumerate(rows, 1)
    ]
    return Review(name, questions=tuple(questions))


def _plain(label: str) -> str:
    """A class as a part of a file name."""
    return re.sub(r"[^\w-]+", "_", label)[:_LETTERS].strip("_") or "class"


def _written(question: Question, out: Path, clips: ClipConfig) -> Example:
    """Write a question's clip; gives what the page shows of it.

    Raises:
        AudioError: the recording cannot be read there.
    """
    info = probe(question.path)
    begin = max(0.0, question.start - clips.margin)
    end = min(question.end + clips.margin, begin + clips.longest, info.duration)
    if end <= begin:
        raise AudioError(Path(question.path), f"ends before {question.start:g} s")
    channel: Channel = "mix" if question.channel is None else question.channel
    sound, rate = read_native(question.path, start=begin, end=end, channel=channel)
    write(inside(out, question.clip), np.clip(sound, -1, 1), rate)
    mark = Mark(question.start - begin, question.end - begin, question.label, true=False)
    place = f"{Path(question.path).name}, {question.start:.2f}-{question.end:.2f} s"
    number = question.id.rpartition("-")[2]
    verdict = Verdict(question.label, question.score, None)
    return Example(f"{number}: {place}", None, [verdict], sound, rate, [mark])


def _said(known: Manifest | None) -> dict[str, Spans]:
    """Class -> stretches of which a table says whether it is there, by absolute path."""
    found: dict[str, Spans] = defaultdict(lambda: defaultdict(list))
    if known is None:
        return found
    columns = ("path", "channel", "start", "end", "labels", "negatives", "reviewed")
    for path, channel, start, end, labels, negatives, reviewed in known.table.select(
        columns
    ).iter_rows():
        names = known.classes if reviewed else [*labels, *negatives]
        for name in names:
            found[name][path, channel].append((start, math.inf if end is None else end))
    return found


def _by_name(said: Spans, paths: Mapping[str, str]) -> Spans:
    """The stretches by the names that a table of candidates gives to recordings."""
    return {
        (name, channel): spans
        for name, place in paths.items()
        for (path, channel), spans in said.items()
        if path == place
    }
