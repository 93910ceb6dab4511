"""What a detector got wrong: false alarms, misses and bad ends, the worst first."""

from __future__ import annotations

import numpy as np
import polars as pl

from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.collars import within
from sonoformer.evaluation.events.endpoints import endpoints

MISTAKES = {
    "kind": pl.String(),
    "path": pl.String(),
    "start": pl.Float64(),
    "end": pl.Float64(),
    "label": pl.String(),
    "score": pl.Float64(),
    "onset_error": pl.Float64(),
    "offset_error": pl.Float64(),
}
"""Columns of a table of mistakes. `start` and `end` are those of the found event, or of the true
one that was missed; errors are found minus true, in seconds."""

FALSE_ALARM, MISS, BAD_END = "false alarm", "miss", "bad end"


def mistakes(answers: EventAnswers, collar: float = 0.2, share: float = 0.5) -> pl.DataFrame:
    """A row a mistake, with the columns of `MISTAKES`.

    Found events that overlap with no true one of their class (or only with ones that have a better
    partner) are false alarms; true ones without a partner are misses; partners whose ends differ
    by more than the collars (as `collars.by_collars`) have bad ends. False alarms are sorted by
    falling score, misses by falling length, bad ends by falling error.
    """
    true, said, ends = answers.true, answers.said, endpoints(answers)
    lonely = np.setdiff1d(np.arange(len(said.item)), ends.said)
    missed = np.setdiff1d(np.arange(len(true.item)), ends.true)
    bad = np.flatnonzero(~within(true, said, ends.true, ends.said, collar, share))
    lonely = lonely[np.argsort(-said.score[lonely], kind="stable")]
    missed = missed[np.argsort((true.start - true.end)[missed], kind="stable")]
    worst = np.maximum(np.abs(ends.onset[bad]), np.abs(ends.offset[bad]))
    bad = bad[np.argsort(-worst, kind="stable")]
    rows = [_row(answers, FALSE_ALARM, "found", int(said.row[i])) for i in lonely]
    rows += [_row(answers, MISS, "truth", int(true.row[i])) for i in missed]
    for i in bad:
        errors = (float(ends.onset[i]), float(ends.offset[i]))
        rows.append(_row(answers, BAD_END, "found", int(said.row[ends.said[i]]), *errors))
    return pl.DataFrame(rows, schema=MISTAKES, orient="row")


def _row(
    answers: EventAnswers,
    kind: str,
    table: str,
    row: int,
    onset: float | None = None,
    offset: float | None = None,
) -> tuple[object, ...]:
    columns = ("path", "start", "end", "label", "score")
    event = getattr(answers, table).row(row, named=True)
    score = None if kind == MISS else event["score"]
    return (kind, *(event[name] for name in columns[:-1]), score, onset, offset)
