"""How far the ends of found events are from the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sonoformer.evaluation.events.answers import EventAnswers, Index, Times
from sonoformer.evaluation.events.outcomes import Values, Weights
from sonoformer.evaluation.events.pairs import overlapping, shared


@dataclass(frozen=True, eq=False)
class Endpoints:
    """Pairs of a true and a found event, and found minus true; all `(pairs,)`.

    Attributes:
        true, said: rows of `EventAnswers.true` and `EventAnswers.said`.
        item, label: recording and class.
        onset, offset: seconds; positive is late.
    """

    true: Index
    said: Index
    item: Index
    label: Index
    onset: Times
    offset: Times


def endpoints(answers: EventAnswers) -> Endpoints:
    """Pair events of a class that overlap, each with one other, the best overlaps first.

    The overlap of two events is what they share over what they cover together. Collars play no part
    in it, so that large errors are seen as such.
    """
    true, said = answers.true, answers.said
    i, j = overlapping(true, said)
    common = shared(true, said, i, j)
    union = (true.end[i] - true.start[i]) + (said.end[j] - said.start[j]) - common
    order = np.argsort(-common / union, kind="stable")
    free_true, free_said = np.ones(len(true.item), bool), np.ones(len(said.item), bool)
    pairs = []
    for one, other in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if free_true[one] and free_said[other]:
            free_true[one] = free_said[other] = False
            pairs.append((one, other))
    rows = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    i, j = rows[:, 0], rows[:, 1]
    return Endpoints(
        i,
        j,
        true.item[i],
        true.label[i],
        said.start[j] - true.start[i],
        said.end[j] - true.end[i],
    )


def quantile(values: Times, share: float, weights: Weights) -> Values:
    """`(draws,)`: weighted quantile, the smallest value that a share of the weight does not pass.

    Args:
        values: `(n,)`.
        share: in [0, 1]; 0.5 is the median.
        weights: `(draws, n)`.

    Returns:
        NaN for draws without any weight.
    """
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1)
    place = (sums >= share * sums[:, -1:] - 1e-9).argmax(1)
    return np.where(sums[:, -1] > 0, values[order][place], np.nan)
