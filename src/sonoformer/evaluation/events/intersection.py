"""Events by what they have in common: detection, truth and cross-trigger criteria.

Bilen et al., "A Framework for the Robust Evaluation of Sound Event Detection" (ICASSP 2020, arXiv
1910.08440), section 3. How the ends of events lie does not matter, nor whether an event is found in
pieces; only how much of a found event is right, and how much of a true one is found.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers, Index, Marks, Times
from sonoformer.evaluation.events.outcomes import Outcomes
from sonoformer.evaluation.events.pairs import overlapping, shared

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Criteria:
    """What counts as found."""

    dtc: float = 0.5
    """Detection tolerance: share of a found event that must lie in true ones of its class."""
    gtc: float = 0.5
    """Ground truth intersection: share of a true event that such found ones must cover."""
    cttc: float = 0.3
    """Cross-trigger tolerance: share of a false alarm in another class's events from which on it
    counts as taken for that class."""

    def __post_init__(self) -> None:
        for name in ("dtc", "gtc", "cttc"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}: must lie in 0 to 1; got {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Triggers:
    """False alarms that lie in events of another class; all `(triggers,)`."""

    item: Index
    label: Index
    other: Index
    score: Times


@dataclass(frozen=True, eq=False)
class Intersections:
    """What the criteria leave: outcomes, cross triggers, and how long each class really lasts."""

    outcomes: Outcomes
    triggers: Triggers
    lasting: Times
    """`(recordings, classes)` seconds of true events"""


def by_intersection(
    answers: EventAnswers, criteria: Criteria = Criteria(), *, reference: bool = False
) -> Intersections:
    """Apply the criteria at every threshold on the found events' scores at once.

    Whether a found event is right does not depend on the others; so a true event is found from the
    score on at which right ones cover enough of it, and a false alarm counts from its own score on.

    Events without duration do not count. Where events of one class overlap, what they cover
    together counts once; psds_eval refuses such tables. With overlaps a cover is that of the
    union, and each event is still an event.

    Args:
        answers: true and found events.
        criteria: the tolerances.
        reference: psds_eval compares shares without allowance for rounding. By default a share
            within 1e-9 of the criterion meets it.
    """
    slack = 0.0 if reference else _ROUNDING
    true, said = (marks.take(marks.end > marks.start) for marks in (answers.true, answers.said))
    right = rightly_found(true, said, criteria.dtc - slack)
    found_at = _found_at(true, envelope(said.take(right)), criteria.gtc - slack)
    false = said.take(~right)
    reached = true.take(found_at > -np.inf)
    truths = np.zeros((len(answers.paths), len(answers.classes)), np.int64)
    np.add.at(truths, (true.item, true.label), 1)
    lasting = np.zeros(truths.shape)
    np.add.at(lasting, (true.item, true.label), true.end - true.start)
    outcomes = Outcomes(
        truths,
        np.concatenate([reached.item, false.item]),
        np.concatenate([reached.label, false.label]),
        np.concatenate([found_at[found_at > -np.inf], false.score]),
        np.repeat([True, False], [len(reached.item), len(false.item)]),
        answers.lengths,
    )
    triggers = _triggers(false, merged(true), len(answers.classes), criteria.cttc - slack)
    return Intersections(outcomes, triggers, lasting)


def rightly_found(true: Marks, said: Marks, dtc: float) -> NDArray[np.bool_]:
    """Mask of the found events of which a share `dtc` lies in true ones of their class."""
    return _met(said, merged(true), dtc)


def wholly_found(true: Marks, right: Marks, gtc: float) -> NDArray[np.bool_]:
    """Mask of the true events of which rightly found ones together cover a share `gtc`."""
    return _met(true, merged(right), gtc)


def merged(marks: Marks) -> Marks:
    """Events of one recording and class that overlap as one; the score is that of the first."""
    heads = _heads(marks)
    if len(heads) == len(marks.item):
        return marks
    return marks.take(heads)._replace(end=np.maximum.reduceat(marks.end, heads))


def envelope(marks: Marks) -> Marks:
    """Pieces that do not overlap and have, at every moment, the highest score of the events."""
    heads = _heads(marks)
    if len(heads) == len(marks.item):
        return marks
    rows: list[tuple[int, float, float, float]] = []
    for first, last in pairwise([*heads.tolist(), len(marks.item)]):
        columns = (marks.start, marks.end, marks.score)
        spans = list(zip(*(column[first:last].tolist() for column in columns), strict=True))
        rows += [(first, *piece) for piece in _highest(spans)]
    row, start, end, score = (np.array(column) for column in zip(*rows, strict=True))
    return marks.take(row)._replace(start=start, end=end, score=score)


def _heads(marks: Marks) -> Index:
    """Rows at which an event begins that overlaps with none before it."""
    if not len(marks.item):
        return np.zeros(0, np.int64)
    fresh = np.append(True, (np.diff(marks.item) != 0) | (np.diff(marks.label) != 0))
    # Far enough apart, the latest end so far may run over recordings and classes.
    offset = np.cumsum(fresh) * (1.0 + marks.end.max())
    latest = np.maximum.accumulate(marks.end + offset)
    fresh[1:] |= marks.start[1:] + offset[1:] >= latest[:-1]
    return np.flatnonzero(fresh)


def _highest(spans: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Upper envelope of overlapping stretches `(start, end, score)`."""
    times = sorted({time for span in spans for time in span[:2]})
    spans = sorted(spans)
    active: list[tuple[float, float]] = []
    pieces, place = [], 0
    for begin, end in pairwise(times):
        while place < len(spans) and spans[place][0] <= begin:
            heapq.heappush(active, (-spans[place][2], spans[place][1]))
            place += 1
        while active and active[0][1] <= begin:
            heapq.heappop(active)
        if active:
            pieces.append((begin, end, -active[0][0]))
    return pieces


def _met(marks: Marks, pieces: Marks, share: float) -> NDArray[np.bool_]:
    """Mask of the events of which pieces of their class, which do not overlap, cover a share.

    With a share of 0 it still takes a piece that touches.
    """
    i, j = overlapping(marks, pieces)
    part = shared(marks, pieces, i, j) / (marks.end[i] - marks.start[i])
    touched = np.zeros(len(marks.item), bool)
    touched[i] = True
    return touched & (np.bincount(i, part, minlength=len(marks.item)) >= share)


def _found_at(true: Marks, pieces: Marks, gtc: float) -> Times:
    """The highest score at which pieces cover enough of each true event; -inf if none does."""
    i, j = overlapping(true, pieces)
    order = np.lexsort((-pieces.score[j], i))
    i, j = i[order], j[order]
    part = shared(true, pieces, i, j) / (true.end[i] - true.start[i])
    found = np.full(len(true.item), -np.inf)
    if not len(i):
        return found
    heads = np.flatnonzero(np.append(True, np.diff(i) != 0))
    for head, last in zip(heads, np.append(heads[1:], len(i)), strict=True):
        cover = np.cumsum(part[head:last])
        enough = int(np.argmax(cover >= gtc))
        if cover[enough] >= gtc:
            found[i[head]] = pieces.score[j[head + enough]]
    return found


def _triggers(false: Marks, pieces: Marks, classes: int, cttc: float) -> Triggers:
    """False alarms of which enough lies in events of another class."""
    i, j = overlapping(false, pieces, any_class=True)
    other = false.label[i] != pieces.label[j]
    i, j = i[other], j[other]
    part = shared(false, pieces, i, j) / (false.end[i] - false.start[i])
    pair, where = np.unique(i * classes + pieces.label[j], return_inverse=True)
    keep = np.bincount(where, part, minlength=len(pair)) >= cttc
    row, label = np.divmod(pair[keep], classes)
    return Triggers(false.item[row], false.label[row], label, false.score[row])
