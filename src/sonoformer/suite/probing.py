"""A probe on one turn of a task: from features to scores of the test clips."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.attentive import AttentiveProbe
from sonoformer.evaluation.descent import TokenProbe, descend
from sonoformer.evaluation.inner import Matrix
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
    fit = partial(fit_probe, single=True, config=listener.config.linear)
    return _on_features(fit, listener.pooled, lesson, turn, seed)


def weighted(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """A linear classifier of a learned mean of all blocks."""
    fit = partial(fit_weighted, single=True, config=listener.config.weighted)
    return _on_features(fit, listener.layers, lesson, turn, seed)


def knn(listener: Listener, lesson: Lesson, turn: Turn, seed: int) -> Scores:
    """Nearest neighbours among the pooled tokens."""
    fit = partial(fit_neighbours, config=listener.config.knn)
    return _on_features(fit, listener.pooled, lesson, turn, seed)


def _on_features(
    fit: Callable[..., Any], features: Matrix, lesson: Lesson, turn: Turn, seed: int
) -> Scores:
    found = fit(
        features[turn.train],
        lesson.targets[turn.train],
        weight=lesson.weight(turn),
        groups=lesson.inner(turn),
        seed=seed,
    )
    return np.asarray(found.probabilities(features[turn.test]))


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
