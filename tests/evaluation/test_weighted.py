"""The weighted-layer probe."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.test_linear import blobs, one_hot

from sonoformer.errors import UserError
from sonoformer.evaluation.linear import ProbeConfig, fit_probe
from sonoformer.evaluation.weighted import WeightedConfig, fit_weighted


def layered(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three layers, of which only the middle one knows anything."""
    x, truth = blobs(seed, clips=120)
    rng = np.random.default_rng(seed + 10)
    noise = rng.normal(0, 50, (2, *x.shape)).astype(np.float32)
    return np.stack([noise[0], x, noise[1]], axis=1), truth


def test_it_finds_the_layer_that_knows() -> None:
    features, truth = layered()
    config = WeightedConfig(penalties=(0.1,))
    probe = fit_weighted(features, one_hot(truth), single=True, config=config)
    assert probe.layers.sum() == pytest.approx(1, abs=1e-5)
    assert probe.layers.argmax() == 1
    queries, asked = layered(1)
    scores = probe.probabilities(queries)
    assert scores.sum(1) == pytest.approx(1, abs=1e-5)
    alone = ProbeConfig(penalties=(0.1,))
    last = fit_probe(features[:, 2], one_hot(truth), single=True, config=alone)
    assert (scores.argmax(1) == asked).mean() > 0.7
    assert (last.probabilities(queries[:, 2]).argmax(1) == asked).mean() < 0.5


def test_one_layer_is_a_linear_probe() -> None:
    x, truth = blobs(clips=100)
    config = WeightedConfig(penalties=(0.1,), iterations=200)
    one = fit_weighted(x[:, None], one_hot(truth), single=True, config=config)
    other = fit_probe(x, one_hot(truth), single=True, config=ProbeConfig(penalties=(0.1,)))
    assert np.abs(one.probabilities(x[:, None]) - other.probabilities(x)).max() < 2e-3


def test_the_penalty_is_chosen_on_held_out_groups() -> None:
    rng = np.random.default_rng(1)
    features = np.repeat(rng.normal(size=(30, 2, 40)), 4, axis=0).astype(np.float32)
    truth = np.repeat(rng.integers(0, 3, 30), 4)
    names = [f"clip{i // 4}" for i in range(120)]
    quick = WeightedConfig(iterations=20)
    careless = fit_weighted(features, one_hot(truth), single=True, config=quick)
    grouped = fit_weighted(features, one_hot(truth), single=True, groups=names, config=quick)
    assert careless.penalty < grouped.penalty == 1.0


@pytest.mark.parametrize("change", [{"penalties": (0.0,)}, {"folds": 1}, {"iterations": 1}])
def test_options_are_checked(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        WeightedConfig(**change)
