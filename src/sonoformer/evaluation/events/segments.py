"""Time cut into segments: which classes are active in each (as sed_eval counts).

Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection" (Applied Sciences
2016), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers, Marks
from sonoformer.evaluation.events.outcomes import Values, Weights, ratio

_ROUNDING = 1e-9  # of a segment


@dataclass(frozen=True, eq=False)
class SegmentCounts:
    """Segments of each recording.

    Attributes:
        hits, false, misses: `(recordings, classes)` segments.
        swapped: `(recordings,)` classes that stand where another should (substitutions).
        deleted, inserted: `(recordings,)` classes too few and too many in a segment.
    """

    hits: NDArray[np.int64]
    false: NDArray[np.int64]
    misses: NDArray[np.int64]
    swapped: NDArray[np.int64]
    deleted: NDArray[np.int64]
    inserted: NDArray[np.int64]


def by_segments(
    answers: EventAnswers, seconds: float = 1.0, *, reference: bool = False
) -> SegmentCounts:
    """Count segments in which a class is active in truth, in what was found, or in both.

    An event makes every segment active that it touches. Segments whose middle was not reviewed do
    not count.

    Args:
        answers: true and found events.
        seconds: length of a segment.
        reference: sed_eval divides times without allowance for rounding, so that an event from
            0.3 s on touches the third segment of 0.1 s. By default it begins with the fourth.
    """
    if not seconds > 0:
        raise UserError(f"segment: must be above 0 seconds; got {seconds}")
    shape = (len(answers.paths), len(answers.classes))
    hits, false, misses = (np.zeros(shape, np.int64) for _ in range(3))
    swapped, deleted, inserted = (np.zeros(shape[0], np.int64) for _ in range(3))
    slack = 0.0 if reference else _ROUNDING
    places = [
        np.searchsorted(marks.item, np.arange(shape[0] + 1))
        for marks in (answers.true, answers.said)
    ]
    for number, length in enumerate(answers.seconds.values()):
        count = int(np.ceil(length / seconds - slack))
        true, said = (
            _active(marks, place[number], place[number + 1], count, shape[1], seconds, slack)
            for marks, place in zip((answers.true, answers.said), places, strict=True)
        )
        known = answers.known_at(number, np.arange(0.5, count) * seconds)
        true, said = true[known], said[known]
        both, extra, lost = true & said, said & ~true, true & ~said
        hits[number], false[number], misses[number] = both.sum(0), extra.sum(0), lost.sum(0)
        many, few = extra.sum(1), lost.sum(1)
        swapped[number] = np.minimum(many, few).sum()
        deleted[number] = np.maximum(0, few - many).sum()
        inserted[number] = np.maximum(0, many - few).sum()
    return SegmentCounts(hits, false, misses, swapped, deleted, inserted)


def error_rate(counts: SegmentCounts, weights: Weights) -> Values:
    """`(draws,)`: substitutions, deletions and insertions over active true segments.

    NaN where no class is ever active in truth; sed_eval then gives a number of the order of 1e16.
    """
    wrong = weights @ (counts.swapped + counts.deleted + counts.inserted).astype(np.float64)
    return ratio(wrong, weights @ (counts.hits + counts.misses).sum(1).astype(np.float64))


def _active(
    marks: Marks, first: int, last: int, count: int, classes: int, seconds: float, slack: float
) -> NDArray[np.bool_]:
    """`(segments, classes)`: what the events in rows `first` to `last` touch."""
    begins = np.floor(marks.start[first:last] / seconds + slack).astype(np.int64)
    ends = np.ceil(marks.end[first:last] / seconds - slack).astype(np.int64)
    ends = np.maximum(np.minimum(ends, count), begins := np.minimum(begins, count))
    changes = np.zeros((count + 1, classes), np.int32)
    np.add.at(changes, (begins, marks.label[first:last]), 1)
    np.add.at(changes, (ends, marks.label[first:last]), -1)
    return np.asarray(np.cumsum(changes, axis=0)[:count] > 0)
