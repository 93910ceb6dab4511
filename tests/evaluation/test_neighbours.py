"""The nearest-neighbour probe."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.test_linear import blobs, one_hot

from sonoformer.errors import UserError
from sonoformer.evaluation.neighbours import NeighbourConfig, fit_neighbours, nearest_neighbours


def test_nearest_neighbours_find_the_same_clip_and_the_same_class() -> None:
    x, truth = blobs(spread=0.3)
    queries, asked = blobs(seed=1, spread=0.3)
    scores = nearest_neighbours(x, one_hot(truth), queries)
    assert (scores.argmax(1) == asked).mean() > 0.95
    assert scores.sum(1) == pytest.approx(1.0, abs=1e-5)
    alone = nearest_neighbours(x, one_hot(truth), x, neighbours=1)
    assert (alone.argmax(1) == truth).all()


def test_unknown_clips_do_not_vote() -> None:
    features = np.array([[1.0, 0], [1, 0.1], [-1, 0]], np.float32)
    targets = np.array([[True], [False], [False]])
    known = np.array([[True], [False], [True]])
    query = np.array([[1.0, 0.05]], np.float32)
    seen = nearest_neighbours(features, targets, query, neighbours=2)
    unseen = nearest_neighbours(features, targets, query, known=known, neighbours=2)
    assert seen[0, 0] < 0.9
    assert unseen[0, 0] == pytest.approx(1.0)


def test_the_number_is_chosen_where_copies_do_not_help() -> None:
    """Copies in one group: the nearest clip is a copy, and is only right if it may be met."""
    rng = np.random.default_rng(0)
    x, truth = blobs(clips=120, spread=3.0)
    x, truth = np.repeat(x, 3, axis=0), np.repeat(truth, 3)
    x = x + rng.normal(0, 1e-3, x.shape).astype(np.float32)
    config = NeighbourConfig(neighbours=(1, 20))
    careless = fit_neighbours(x, one_hot(truth), config=config)
    names = [f"clip{i // 3}" for i in range(len(x))]
    grouped = fit_neighbours(x, one_hot(truth), groups=names, config=config)
    assert (careless.neighbours, grouped.neighbours) == (1, 20)
    assert grouped.right[20] > grouped.right[1]


def test_one_group_takes_the_middle_number() -> None:
    x, truth = blobs(clips=30)
    probe = fit_neighbours(x, one_hot(truth), groups=["same"] * 30)
    assert (probe.neighbours, probe.right) == (5, {})
    assert probe.probabilities(x).shape == (30, 3)


@pytest.mark.parametrize("change", [{"neighbours": ()}, {"temperature": 0.0}, {"folds": 1}])
def test_options_are_checked(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        NeighbourConfig(**change)
