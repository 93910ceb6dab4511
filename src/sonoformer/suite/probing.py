"""A probe on one turn of a task: from features to scores of the test clips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.attentive import AttentiveProbe
from sonoformer.evaluation.descent import TokenProbe, descend
from sonoformer.evaluation.linear import fit_probe
from sonoformer.evaluation.neighbours import fit_neighbours
from sonoformer.evaluation.prototypical import PrototypicalProbe
from sonoformer.evaluation.weighted import fit_weighted
from sonoformer.suite.config import Probe
from sonoformer.suite.lesson import Lesson
from sonoformer.suite.listening import Listener
from sonoformer.suite.turns import Turn

Scores = NDArray[np.float32]
ProbeTurn = Callable[[Listener, Lesson, Turn, int], Scores]


def linear(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """A linear classifier of pooled tokens."""
    features = listener.pooled
    found = fit_probe(
        features[turn.train],
        lesson.targets[turn.train],
        single=True,
        weight=lesson.weight(turn),
        groups=lesson.inner(turn),
        config=listener.config.linear,
        seed=seed,
    )
    return found.probabilities(features[turn.test])


def weighted(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """A linear classifier of a learned mean of all blocks."""
    features = listener.layers
    found = fit_weighted(
        features[turn.train],
        lesson.targets[turn.train],
        single=True,
        weight=lesson.weight(turn),
        groups=lesson.inner(turn),
        config=listener.config.weighted,
        seed=seed,
    )
    return found.probabilities(features[turn.test])


def knn(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """Nearest neighbours among the pooled tokens."""
    features = listener.pooled
    found = fit_neighbours(
        features[turn.train],
        lesson.targets[turn.train],
        weight=lesson.weight(turn),
        groups=lesson.inner(turn),
        config=listener.config.knn,
        seed=seed,
    )
    return found.probabilities(features[turn.test])


def attentive(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """A linear classifier of tokens that learned queries choose."""

    def make(dim: int, classes: int) -> TokenProbe:
        return AttentiveProbe(dim, classes, listener.config.queries)

    return _on_tokens(make, listener, lesson, turn, seed)


def prototypical(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """Class prototypes looked for among all tokens."""

    def make(dim: int, classes: int) -> TokenProbe:
        return PrototypicalProbe(dim, classes, listener.config.prototypes)

    return _on_tokens(make, listener, lesson, turn, seed)


def _on_tokens(
    make: Callable[[int, int], TokenProbe],
    listener: Listener,
    lesson: Lesson,
    turn: Turn,
    seed: int,
) -> Scores:
    bags = listener.bags
    found = descend(
        lambda: make(bags.dim, len(lesson.classes)),
        bags,
        turn.train,
        lesson.targets[turn.train],
        single=True,
        weight=lesson.weight(turn),
        groups=lesson.inner(turn),
        config=listener.config.descent,
        seed=seed,
    )
    return found.probabilities(bags, turn.test)


PROBES: dict[Probe, ProbeTurn] = {
    "linear": linear,
    "weighted": weighted,
    "attentive": attentive,
    "prototypical": prototypical,
    "knn": knn,
}
"""Name -> probe."""
