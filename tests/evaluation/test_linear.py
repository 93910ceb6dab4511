"""The linear probe: equal to scikit-learn; penalties chosen without test clips."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sonoformer.errors import UserError
from sonoformer.evaluation.inner import inner_folds
from sonoformer.evaluation.linear import ProbeConfig, fit_probe


def blobs(seed: int = 0, clips: int = 200, dim: int = 12, classes: int = 3, spread: float = 1.5):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    truth = rng.integers(0, classes, clips)
    features = centres[truth] + spread * rng.normal(size=(clips, dim))
    # Scales that differ by orders of magnitude, as those of real features do.
    return (features * np.logspace(-2, 2, dim) + 5).astype(np.float32), truth


def one_hot(truth: np.ndarray, classes: int = 3) -> np.ndarray:
    return np.eye(classes)[truth] > 0


def test_softmax_probe_equals_scikit_learn() -> None:
    x, truth = blobs()
    penalty = 0.01
    probe = fit_probe(x, one_hot(truth), single=True, config=ProbeConfig(penalties=(penalty,)))
    z = (x - x.mean(0)) / x.std(0)
    reference = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=5000).fit(z, truth)
    queries, _ = blobs(seed=1)
    expected = reference.predict_proba((queries - x.mean(0)) / x.std(0))
    assert np.abs(probe.probabilities(queries) - expected).max() < 2e-3
    assert probe.penalty == penalty


def test_sigmoid_probe_equals_scikit_learn_on_the_known_clips() -> None:
    x, truth = blobs()
    targets = np.stack([truth == 0, truth != 1], axis=1)
    known = np.random.default_rng(3).random(targets.shape) < 0.7
    penalty = 0.02
    probe = fit_probe(
        x, targets & known, single=False, known=known, config=ProbeConfig(penalties=(penalty,))
    )
    z = (x - x.mean(0)) / x.std(0)
    for c in range(2):
        rows = known[:, c]
        reference = LogisticRegression(C=1 / (penalty * rows.sum()), tol=1e-8, max_iter=5000)
        expected = reference.fit(z[rows], targets[rows, c]).predict_proba(z)[:, 1]
        assert np.abs(probe.probabilities(x)[:, c] - expected).max() < 2e-3


def test_weights_of_clips_are_those_of_scikit_learn() -> None:
    x, truth = blobs(clips=60)
    weight = np.random.default_rng(0).uniform(0.2, 5, len(x)).astype(np.float32)
    config = ProbeConfig(penalties=(0.05,))
    probe = fit_probe(x, one_hot(truth), single=True, weight=weight, config=config)
    reference = LogisticRegression(C=1 / (0.05 * weight.sum()), tol=1e-8, max_iter=5000)
    z = (x - x.mean(0)) / x.std(0)
    expected = reference.fit(z, truth, sample_weight=weight).predict_proba(z)
    assert np.abs(probe.probabilities(x) - expected).max() < 2e-3


def test_noise_gets_a_stronger_penalty_than_signal() -> None:
    """With many useless features and few clips, weak penalties overfit and are not chosen."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    noise = rng.normal(size=(60, 200)).astype(np.float32)
    clean = (noise + 4 * rng.normal(size=(3, 200))[truth]).astype(np.float32)
    for_noise = fit_probe(noise, one_hot(truth), single=True)
    for_signal = fit_probe(clean, one_hot(truth), single=True)
    assert for_noise.penalty >= 1.0
    assert for_signal.penalty < for_noise.penalty
    assert set(for_signal.losses) == set(ProbeConfig().penalties)


def test_a_group_is_never_on_both_sides_of_the_choice() -> None:
    """Ten copies of each clip: split apart they would reward memory, kept whole they do not."""
    rng = np.random.default_rng(1)
    features = np.repeat(rng.normal(size=(40, 60)), 10, axis=0).astype(np.float32)
    truth = np.repeat(rng.integers(0, 3, 40), 10)
    names = [f"clip{i // 10}" for i in range(400)]
    careless = fit_probe(features, one_hot(truth), single=True)
    grouped = fit_probe(features, one_hot(truth), single=True, groups=names)
    assert careless.penalty == min(ProbeConfig().penalties)
    assert grouped.penalty >= 1.0


def test_inner_folds_keep_groups_whole_and_spread_classes() -> None:
    truth = np.tile(np.arange(3), 40)
    groups = [f"g{i // 2}" for i in range(120)]
    fold = inner_folds(one_hot(truth), groups, 4, seed=0)
    assert sorted(set(fold)) == [0, 1, 2, 3]
    for name in set(groups):
        assert len({f for f, g in zip(fold, groups, strict=True) if g == name}) == 1
    for number in range(4):
        assert np.bincount(truth[fold == number], minlength=3).min() >= 7
    assert set(inner_folds(one_hot(truth), ["x"] * 60 + ["y"] * 60, 4, seed=0)) == {0, 1}


def test_one_group_takes_the_middle_penalty() -> None:
    x, truth = blobs()
    probe = fit_probe(x, one_hot(truth), single=True, groups=["same"] * len(x))
    assert probe.losses == {}
    assert probe.penalty == np.median(ProbeConfig().penalties)


def test_a_feature_that_never_varies_is_harmless() -> None:
    x, truth = blobs()
    x[:, 0] = 7.0
    probe = fit_probe(x, one_hot(truth), single=True)
    assert np.isfinite(probe.probabilities(x)).all()


def test_seeded() -> None:
    x, truth = blobs()
    a, b = (fit_probe(x, one_hot(truth), single=True, seed=5) for _ in range(2))
    assert (a.weight == b.weight).all()


@pytest.mark.parametrize("truth", [np.zeros(10, int), np.full(10, 2)])
def test_one_class_is_refused(truth: np.ndarray) -> None:
    with pytest.raises(UserError, match="two classes"):
        fit_probe(np.ones((10, 4), np.float32), one_hot(truth), single=True)
