"""Polyphonic Sound Detection Score: area below the PSD-ROC (Bilen et al. 2020, section 4).

The score here is exact over all thresholds on the found events' scores (as sed_scores_eval's is
over frame scores); psds_eval takes a list of operating points, and so does `psds_of_points`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers, Index
from sonoformer.evaluation.events.intersection import Criteria, Intersections, by_intersection
from sonoformer.evaluation.events.outcomes import Values, Weights


@dataclass(frozen=True)
class Scenario:
    """What the score stresses; the defaults are scenario 1 of DCASE, `SCENARIOS` has both."""

    criteria: Criteria = Criteria(0.7, 0.7, 1.0)
    """tolerances of detection, truth and cross triggers"""
    alpha_ct: float = 0.0
    """Cost of cross triggers, as a share of that of other false alarms."""
    alpha_st: float = 1.0
    """Cost of classes that are found unequally well, times their standard deviation."""
    e_max: float = 100.0
    """False alarms an hour up to which the curve counts."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha_ct <= 1:
            raise UserError(f"alpha_ct: must lie in 0 to 1; got {self.alpha_ct}.")
        if self.alpha_st < 0:
            raise UserError(f"alpha_st: must be 0 or more; got {self.alpha_st}.")
        if not self.e_max > 0:
            raise UserError(f"e_max: must be above 0; got {self.e_max}.")


SCENARIOS = {
    "PSDS1": Scenario(),
    "PSDS2": Scenario(Criteria(0.1, 0.1, 0.3), alpha_ct=0.5),
}
"""DCASE task 4: 1 asks for good ends of events, 2 for classes that are not confused."""


@dataclass(frozen=True, eq=False)
class PsdRoc:
    """The PSD-ROC.

    Attributes:
        rates: `(points,)` effective false alarms an hour, rising from 0.
        found: `(points, classes)` share of true events found at most at that rate; NaN for a class
            without any.
        effective: `(points,)` mean over classes less `alpha_st` standard deviations, not below 0.
        score: area up to `e_max`, over `e_max`.
    """

    rates: Values
    found: Values
    effective: Values
    score: float


def psd_roc(found: Intersections, scenario: Scenario, weights: Weights | None = None) -> PsdRoc:
    """The curve over all thresholds.

    Args:
        found: what the scenario's criteria leave.
        scenario: costs.
        weights: `(recordings,)` how often each recording counts; once by default.
    """
    weights = np.ones(len(found.outcomes.truths)) if weights is None else weights
    return _roc([ladder.curve(scenario, weights) for ladder in ladders(found)], scenario)


def psds_samples(found: Intersections, scenario: Scenario, weights: Weights) -> Values:
    """`(draws,)`: the score for each row of `weights` `(draws, recordings)`."""
    steps = ladders(found)
    return np.array([_roc([s.curve(scenario, w) for s in steps], scenario).score for w in weights])


def psds(answers: EventAnswers, scenario: Scenario = Scenario()) -> float:
    """The score over all thresholds on the found events' scores, in [0, 1]."""
    return psd_roc(by_intersection(answers, scenario.criteria), scenario).score


def psds_of_points(
    points: Sequence[EventAnswers], scenario: Scenario = Scenario(), *, reference: bool = False
) -> PsdRoc:
    """The curve through operating points, such as one table for each threshold on frames.

    psds_eval has no value where there is one class (its mean over the other classes is empty): here
    it has no cross triggers. For a class without true events psds_eval takes what lies in memory:
    here it is left out.

    Args:
        points: answers about the same truth; the scores of events are not used.
        scenario: costs and criteria.
        reference: as `by_intersection`.
    """
    curves: list[list[tuple[float, float]]] = [[] for _ in points[0].classes]
    for answers in points:
        found = by_intersection(answers, scenario.criteria, reference=reference)
        ones = np.ones(len(answers.paths))
        for ladder, curve in zip(ladders(found), curves, strict=True):
            rates, shares = ladder.curve(scenario, ones)
            curve.append((rates[-1], shares[-1]))
    return _roc([_stairs(np.array(curve)) for curve in curves], scenario)


@dataclass(frozen=True, eq=False)
class Ladder:
    """Everything that happens to one class as its threshold falls, in that order.

    Attributes:
        label: number of the class.
        found: where it comes from.
        item: `(steps,)` recording.
        hit, false: bool `(steps,)`.
        other: `(steps,)` class that a cross trigger is taken for; -1 for none.
        ends: the last step of each threshold.
    """

    label: int
    found: Intersections
    item: Index
    hit: NDArray[np.bool_]
    false: NDArray[np.bool_]
    other: Index
    ends: Index

    def curve(self, scenario: Scenario, weights: Weights) -> tuple[Values, Values]:
        """Effective false alarms an hour and share found, from (0, 0) on, both rising."""
        outcomes = self.found.outcomes
        truths = float(weights @ outcomes.truths[:, self.label])
        hours = float(weights @ outcomes.lengths) / 3600
        lasting = weights @ self.found.lasting / 3600
        others = (lasting > 0) & (np.arange(len(lasting)) != self.label)
        # The last one is for what is no cross trigger.
        cost = np.zeros(len(lasting) + 1)
        share = scenario.alpha_ct / max(1, others.sum())
        np.divide(share, lasting, out=cost[:-1], where=others)
        weight = weights[self.item]
        rates = np.cumsum(weight * (self.false / hours + cost[self.other]))[self.ends]
        if not truths:
            return np.append(0.0, rates), np.full(len(rates) + 1, np.nan)
        shares = np.cumsum(weight * self.hit)[self.ends] / truths
        return np.append(0.0, rates), np.append(0.0, shares)


def ladders(found: Intersections) -> list[Ladder]:
    """One for each class."""
    outcomes, triggers = found.outcomes, found.triggers
    result = []
    for label in range(outcomes.truths.shape[1]):
        mine, crossed = outcomes.label == label, triggers.label == label
        many = int(crossed.sum())
        none = np.zeros(many, bool)
        score = np.concatenate([outcomes.score[mine], triggers.score[crossed]])
        order = np.argsort(-score, kind="stable")
        score = score[order]
        result.append(
            Ladder(
                label,
                found,
                np.concatenate([outcomes.item[mine], triggers.item[crossed]])[order],
                np.concatenate([outcomes.hit[mine], none])[order],
                np.concatenate([~outcomes.hit[mine], none])[order],
                np.concatenate([np.full(mine.sum(), -1), triggers.other[crossed]])[order],
                np.append(np.flatnonzero(np.diff(score)), len(score) - 1)[: len(score)],
            )
        )
    return result


def _stairs(points: Values) -> tuple[Values, Values]:
    """Operating points `(points, 2)` -> the best share found at each rate or below, from (0, 0)."""
    points = np.concatenate([np.zeros((1, 2)), points])
    if np.isnan(points[1:, 1]).any():
        return np.zeros(1), np.full(1, np.nan)
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    return points[:, 0], np.maximum.accumulate(points[:, 1])


def _roc(curves: Sequence[tuple[Values, Values]], scenario: Scenario) -> PsdRoc:
    """Classes' curves put together on all of their rates."""
    rates = np.unique(np.concatenate([rates for rates, _ in curves]))
    found = np.stack(
        [shares[np.searchsorted(own, rates, side="right") - 1] for own, shares in curves], axis=1
    )
    there = ~np.isnan(found[0])
    if not there.any():
        return PsdRoc(rates, found, np.full(len(rates), np.nan), float("nan"))
    effective = found[:, there].mean(1) - scenario.alpha_st * found[:, there].std(1)
    effective = np.maximum(effective, 0.0)
    borders = np.minimum(np.append(rates, scenario.e_max), scenario.e_max)
    borders[-1] = scenario.e_max
    area = float((np.diff(borders) * effective).sum())
    return PsdRoc(rates, found, effective, area / scenario.e_max)
