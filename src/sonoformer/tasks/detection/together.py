"""Several trainings of a detector, each tested on recordings that it did not hear, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.strong import Truth
from sonoformer.evaluation.events.answers import EventAnswers, joined
from sonoformer.evaluation.events.card import event_scorecard
from sonoformer.evaluation.report import Section
from sonoformer.run import Run
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.compare import TITLES
from sonoformer.tasks.detection.baselines.table import baseline_file, baseline_rows, comparison
from sonoformer.tasks.detection.judging import answers_to, judge_events
from sonoformer.tasks.detection.lesson import truth_of

Tested = Mapping[str, tuple[NDArray[np.int64], Path]]
"""Training -> the rows that it was tested on, and the folder of its own `judge`."""


@dataclass(frozen=True, eq=False)
class Several:
    """What several trainings found.

    Attributes:
        answers: true and found events; a recording that several heard (with other seeds) is there
            once for each, and the bootstrap draws these together.
        rows: recording -> its row in the table.
        folds: recording -> the training that it tested.
    """

    answers: EventAnswers
    rows: dict[str, int]
    folds: dict[str, str]


def judge_together(
    run: Run, clips: Clips, tested: Tested, classes: Sequence[str], config: FinetuneConfig
) -> list[Section]:
    """Score the events that several trainings found, and those that their baselines did.

    Args:
        run: the folder; the same is left there as by `judge`.
        clips: all recordings.
        tested: the trainings.
        classes: names.
        config: the options.

    Returns:
        Sections for the report; none where no true event is in the recordings.
    """
    truths = {
        name: truth_of(clips.take(test), classes, config) for name, (test, _) in tested.items()
    }

    def found_in(file: Path) -> Several:
        return _several(clips, tested, truths, classes, file)

    several = found_in(Path("events.parquet"))
    card, sections = judge_events(
        run, several.answers, clips, several.rows, config, folds=several.folds
    )
    files = {name: baseline_file(name) for name in TITLES}
    if card is None or not config.events.baselines:
        return sections
    if all((folder / f).is_file() for _, folder in tested.values() for f in files.values()):
        others = {
            name: event_scorecard(found_in(file).answers, resamples=config.resamples)
            for name, file in files.items()
        }
        run.metrics({"baselines": baseline_rows(others)})
        sections.insert(1, comparison(card, others))
    else:
        run.log("the test recordings of some trainings hold no event: no baselines over all")
    return sections


def _several(
    clips: Clips,
    tested: Tested,
    truths: Mapping[str, Truth],
    classes: Sequence[str],
    file: Path,
) -> Several:
    """What every training left in `file`, a table of events."""
    parts, rows = [], dict[str, int]()
    groups, folds = dict[str, str](), dict[str, str]()
    seen = np.concatenate([test for test, _ in tested.values()])
    again = len(np.unique(seen)) < len(seen)
    for name, (test, folder) in tested.items():
        part = answers_to(clips.take(test), truths[name], pl.read_parquet(folder / file), classes)
        drawn = part.groups or {path: path for path in part.paths}
        if again:
            part = part.renamed({path: f"{path} ({name})" for path in part.paths})
        rows.update(zip(part.paths, test.tolist(), strict=True))
        groups.update(zip(part.paths, drawn.values(), strict=True))
        folds.update(dict.fromkeys(part.paths, name))
        parts.append(part)
    return Several(joined(parts, groups), rows, folds)
