"""Hits, false alarms and misses at every threshold, and the scores that follow from them.

Whatever the rule by which a found event counts as right, three things are left of it: how many true
events there are, at which score each of them is found, and at which score each false alarm comes
in. All scores here are computed from these, for any weighting of the recordings `(draws,
recordings)`, so that an interval costs little more than a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.events.answers import Index, Times

Weights = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of the events of each class, by one rule.

    Attributes:
        truths: `(recordings, classes)` true events.
        item, label, score: `(outcomes,)` recording, class and the score from which on it counts.
        hit: `(outcomes,)` one more true event is found; else a false alarm.
        lengths: `(recordings,)` seconds.
    """

    truths: Index
    item: Index
    label: Index
    score: Times
    hit: NDArray[np.bool_]
    lengths: Times

    def counts(self, weights: Weights | None = None) -> tuple[Values, Values, Values]:
        """Hits, false alarms and misses with all found events, each `(draws, classes)`."""
        weights = self._ones() if weights is None else weights
        shape = self.truths.shape
        hits, false = np.zeros(shape), np.zeros(shape)
        np.add.at(hits, (self.item[self.hit], self.label[self.hit]), 1)
        np.add.at(false, (self.item[~self.hit], self.label[~self.hit]), 1)
        return weights @ hits, weights @ false, weights @ (self.truths - hits)

    def curve(self, label: int, weights: Weights | None = None) -> tuple[Times, Values, Values]:
        """Hits and false alarms of a class, `(draws, thresholds)`, at each falling threshold."""
        weights = self._ones() if weights is None else weights
        here = np.flatnonzero(self.label == label)
        here = here[np.argsort(-self.score[here], kind="stable")]
        score, hit = self.score[here], self.hit[here]
        # What has the same score passes the threshold together.
        ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)[: len(score)]
        weight = weights[:, self.item[here]]
        hits = np.cumsum(weight * hit, axis=1)[:, ends]
        return score[ends], hits, np.cumsum(weight * ~hit, axis=1)[:, ends]

    def _ones(self) -> Weights:
        return np.ones((1, len(self.truths)))


def f1_of(hits: Values, false: Values, misses: Values) -> Values:
    """Harmonic mean of precision and recall; NaN where there is no true event."""
    return ratio(2 * hits, 2 * hits + false + misses, hits + misses > 0)


def class_f1(outcomes: Outcomes, weights: Weights | None = None) -> Values:
    """`(draws, classes)`: F1 of each class with all found events; NaN without a true event."""
    return f1_of(*outcomes.counts(weights))


def pooled_f1(outcomes: Outcomes, weights: Weights | None = None) -> Values:
    """`(draws,)`: F1 of the events of all classes together (micro mean)."""
    return f1_of(*(part.sum(1) for part in outcomes.counts(weights)))


def average_precision(outcomes: Outcomes, weights: Weights | None = None) -> Values:
    """`(draws, classes)`: sum over thresholds of (recall gained) x precision.

    Recall counts all true events, so that it need not reach 1. NaN without a true event.
    """
    weights = outcomes._ones() if weights is None else weights
    result = np.zeros((len(weights), outcomes.truths.shape[1]))
    for label in range(result.shape[1]):
        total = weights @ outcomes.truths[:, label]
        _, hits, false = outcomes.curve(label, weights)
        gained = np.diff(hits, prepend=0.0, axis=1)
        precision = np.nan_to_num(ratio(hits, hits + false))
        result[:, label] = ratio((gained * precision).sum(1), total)
    return result


def false_alarms_per_hour(
    outcomes: Outcomes, recall: float, weights: Weights | None = None
) -> Values:
    """`(draws, classes)`: false alarms an hour at the highest threshold that reaches a recall.

    NaN without a true event; infinite where no threshold reaches the recall.
    """
    weights = outcomes._ones() if weights is None else weights
    hours = weights @ outcomes.lengths / 3600
    result = np.full((len(weights), outcomes.truths.shape[1]), np.nan)
    for label in range(result.shape[1]):
        total = weights @ outcomes.truths[:, label]
        _, hits, false = outcomes.curve(label, weights)
        enough = hits >= recall * total[:, None] - 1e-9
        reached = enough.any(1) if enough.shape[1] else np.zeros(len(weights), bool)
        place = enough.argmax(1) if enough.shape[1] else np.zeros(len(weights), np.int64)
        rate = np.full(len(weights), np.inf)
        rows = np.flatnonzero(reached)
        rate[rows] = false[rows, place[rows]] / hours[rows]
        result[:, label] = np.where(total > 0, rate, np.nan)
    return result


def macro(values: Values) -> Values:
    """`(draws,)`: mean over the classes of `(draws, classes)` in which there is a value."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0.0).sum(1), there.sum(1).astype(np.float64))


def ratio(part: Values, whole: Values, where: NDArray[np.bool_] | None = None) -> Values:
    """`part / whole`, NaN where `whole` is zero or `where` is false."""
    allowed = whole > 0 if where is None else (whole > 0) & where
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=allowed)
