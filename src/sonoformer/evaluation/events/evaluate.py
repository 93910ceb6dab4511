"""Tables of true and found events -> figures, mistakes and a report in a run's folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.audio import read_native
from sonoformer.data.annotations import EventColumns, facts_of, read_marks
from sonoformer.data.annotations.reading import Classes
from sonoformer.data.events import EVENTS
from sonoformer.errors import UserError
from sonoformer.evaluation.events import sections
from sonoformer.evaluation.events.about import About
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.card import EVENT_TITLES, EventScorecard, event_scorecard
from sonoformer.evaluation.events.judged import EventScoring, Judged
from sonoformer.evaluation.events.mistakes import mistakes
from sonoformer.evaluation.report import Report
from sonoformer.evaluation.sections import settings
from sonoformer.evaluation.statistics import RESAMPLES
from sonoformer.files import atomic
from sonoformer.run import Run


class Tables(NamedTuple):
    """True and found events, with the recordings that each table names without any.

    Attributes:
        truth, found: events tables.
        annotated, searched: recordings that the tables name, with and without events.
    """

    truth: pl.DataFrame
    found: pl.DataFrame
    annotated: tuple[str, ...]
    searched: tuple[str, ...]


def read_tables(
    truth: str | Path,
    found: str | Path,
    *,
    recordings: str | Path | None = None,
    columns: EventColumns = EventColumns(),
    classes: Classes | None = None,
) -> Tables:
    """Read both tables, each a file or a folder in any format of `data.annotations`.

    Args:
        truth, found: annotations, and what was found.
        recordings: folder with the sound, in which both find their recordings.
        columns, classes: as `data.annotations.read_marks`.

    Raises:
        UserError: a table cannot be read, has errors, or its recordings are not in the folder.
    """
    options: dict[str, Any] = {"columns": columns, "classes": classes, "recordings": recordings}
    parts = [read_marks(path, **options) for path in (truth, found)]
    named = [tuple(dict.fromkeys([*part.events["path"], *part.empty])) for part in parts]
    tables = (part.events.select(list(EVENTS)) for part in parts)
    return Tables(*tables, *named)  # type: ignore[arg-type]


def answers_of(
    tables: Tables, about: About = About(), *, only_annotated: bool = False
) -> EventAnswers:
    """The answers about every recording that a table names, or that `about` knows the length of.

    Args:
        tables: true and found events.
        about: lengths, where the sound is not there to say; groups, for the intervals.
        only_annotated: leave out what was found in recordings that the truth does not name. By
            default nothing is there, and all that was found in them is wrong.

    Raises:
        UserError: the length of a recording is not known.
    """
    truth, found, annotated, searched = tables
    paths = list(dict.fromkeys([*annotated, *searched, *about.seconds]))
    if only_annotated:
        paths = list(annotated)
        found = found.filter(pl.col("path").is_in(paths))
    unknown = [path for path in paths if path not in about.seconds]
    facts = facts_of(unknown)
    seconds = about.seconds | {p: s for p, one in facts.items() if (s := one.seconds) is not None}
    missing = [path for path in paths if path not in seconds]
    if missing:
        raise UserError(
            f"{missing[0]}: nothing says how long it is ({len(missing)} of {len(paths)} "
            "recordings); name the folder with the sound by --recordings, or a table with path "
            "and seconds by --about"
        )
    alone = [path for path in searched if path not in set(annotated)]
    groups = about.groups if about.groups else None
    answers = EventAnswers(truth, found, {path: seconds[path] for path in paths}, groups=groups)
    if alone and not only_annotated:
        answers.notes.append(
            f"{len(alone)} of the recordings are in the table of found events only (the first is "
            f"{Path(alone[0]).name}): they count as recordings without any true event."
        )
    return answers


def evaluate_events(
    answers: EventAnswers,
    run: Run,
    *,
    scoring: EventScoring = EventScoring(),
    folds: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    examples: int = 6,
) -> EventScorecard:
    """Score events; write `metrics.json`, `mistakes.csv` and `report.html` into the run.

    Args:
        answers: true and found events.
        run: where to write.
        scoring: the rules.
        folds: recording -> fold.
        resamples, seed: of the bootstrap.
        facts: options, for the report's last section.
        examples: mistakes of each kind that the report shows.
    """
    card = event_scorecard(answers, scoring=scoring, folds=folds, resamples=resamples, seed=seed)
    run.metrics(card.to_dict())
    wrong = mistakes(answers, scoring.collar, scoring.offset_share)
    with atomic(run.folder / "mistakes.csv") as temporary:
        wrong.write_csv(temporary, float_precision=4)
    classes = len(card.classes)
    report = Report(run.folder.resolve().name, f"events of {classes} classes")
    report.add(sections.result(card))
    curves = sections.thresholds(Judged(answers, scoring=scoring))
    if curves is not None:
        report.add(curves)
    report.add(sections.tables(card))
    shown = sections.errors(answers, wrong, cut, most=examples)
    if shown is not None:
        report.add(shown)
    report.add(settings(dict(facts or {}), {}, run.problems))
    report.write(run.folder / "report.html")
    return card


def cut(path: str, start: float, end: float) -> tuple[NDArray[np.float32], int]:
    """A stretch of a recording at its own rate; only that stretch is read."""
    with warnings.catch_warnings():
        # A recording that ends early is shown up to there.
        warnings.simplefilter("ignore")
        return read_native(path, start=start, end=end)


def summary(card: EventScorecard) -> Sequence[str]:
    """The figures as lines for a terminal."""
    width = max(len(EVENT_TITLES[name]) for name in card.figures)
    return [f"{EVENT_TITLES[name]:<{width}}  {one}" for name, one in card.figures.items()]
