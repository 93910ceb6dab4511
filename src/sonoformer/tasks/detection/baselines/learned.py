"""Logistic regression and boosted trees on the statistics of each cell and those around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonoformer.errors import MissingExtraError
from sonoformer.evaluation.linear import LinearProbe, ProbeConfig, fit_probe
from sonoformer.tasks.detection.baselines.hearing import Levels, Minute
from sonoformer.tasks.detection.baselines.lesson import Cells, statistics

_PENALTIES = ProbeConfig(penalties=(0.1, 0.01, 0.001), folds=3, iterations=100)
_TREES = 100


@dataclass(frozen=True, eq=False)
class Logistic:
    """Logistic regression, each class against the rest."""

    probe: LinearProbe

    def __call__(self, minute: Minute) -> Levels:
        """Scores `(cells, classes)`."""
        return self.probe.probabilities(statistics(minute))


def fit_logistic(cells: Cells, seed: int) -> Logistic:
    """The penalty is chosen on training recordings held out of the fit."""
    probe = fit_probe(
        cells.features,
        cells.present,
        single=False,
        known=cells.known,
        weight=cells.weight,
        groups=[str(group) for group in cells.groups],
        config=_PENALTIES,
        seed=seed,
    )
    return Logistic(probe)


@dataclass(frozen=True, eq=False)
class Trees:
    """Gradient-boosted trees for each class.

    Attributes:
        models: scikit-learn's, or a number where the training cells say always the same.
    """

    models: Sequence[Any]

    def __call__(self, minute: Minute) -> Levels:
        """Scores `(cells, classes)`."""
        features = statistics(minute)
        scores = np.zeros((len(features), len(self.models)), np.float32)
        for label, model in enumerate(self.models):
            always = isinstance(model, float)
            scores[:, label] = model if always else model.predict_proba(features)[:, 1]
        return scores


def fit_trees(cells: Cells, seed: int) -> Trees:
    """A hundred trees a class, with scikit-learn's defaults otherwise.

    Cells have no weights here: with them scikit-learn takes ten times as long. Where cells without
    events are thinned out, scores are therefore higher than the events are frequent.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        raise MissingExtraError("scikit-learn", "train") from None
    models: list[Any] = []
    for label in range(cells.present.shape[1]):
        known = cells.known[:, label]
        present = cells.present[known, label]
        if not present.any() or present.all():
            models.append(float(present.any()))
            continue
        model = HistGradientBoostingClassifier(
            max_iter=_TREES, early_stopping=False, random_state=seed
        )
        models.append(model.fit(cells.features[known], present))
    return Trees(models)
