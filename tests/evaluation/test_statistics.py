"""Intervals: they cover the truth as often as they say, respect groups, and are seeded."""

from __future__ import annotations

import numpy as np
import pytest

from sonoformer.evaluation.metrics import SINGLE, Answers, accuracy
from sonoformer.evaluation.scorecard import scorecard
from sonoformer.evaluation.statistics import (
    bootstrap,
    crossed_interval,
    paired_bootstrap,
    t_interval,
)


def answers(right: np.ndarray, groups: list[str] | None = None) -> Answers:
    """Two-class answers of which the clips in `right` are correct."""
    targets = np.zeros((len(right), 2), bool)
    targets[:, 0] = True
    scores = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]]).astype(np.float32)
    return Answers(("a", "b"), scores, targets, True, groups=groups)


def test_bootstrap_interval_covers_the_true_accuracy() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        interval = bootstrap(accuracy, answers(rng.random(100) < 0.7), resamples=300, seed=trial)
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= 0.7 <= interval.high
    # 95 % nominal; the binomial standard deviation of 200 trials is 1.5 %.
    assert 0.89 <= inside / 200 <= 0.99


def test_bootstrap_equals_the_formula_for_a_mean() -> None:
    right = np.arange(400) < 300
    interval = bootstrap(accuracy, answers(right), resamples=4000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert interval.value == 0.75
    assert interval.low == pytest.approx(0.75 - half, abs=0.004)
    assert interval.high == pytest.approx(0.75 + half, abs=0.004)
    assert interval.over == "400 clips"
    assert str(interval).startswith("0.750 [0.70")


def test_groups_of_equal_clips_count_as_one_clip_each() -> None:
    """20 recordings cut into 10 equal clips hold as much as 20 clips, not 200."""
    one = np.random.default_rng(1).random(20) < 0.6
    alone = bootstrap(accuracy, answers(one), seed=3)
    cut = bootstrap(
        accuracy,
        answers(np.repeat(one, 10), [f"g{i:02d}" for i in range(20) for _ in range(10)]),
        seed=3,
    )
    careless = bootstrap(accuracy, answers(np.repeat(one, 10)), seed=3)
    assert (cut.low, cut.high) == pytest.approx((alone.low, alone.high))
    assert careless.high - careless.low < (cut.high - cut.low) / 2
    assert cut.over == "20 groups"


def test_one_group_gives_no_interval() -> None:
    interval = bootstrap(accuracy, answers(np.array([True, False]), ["x", "x"]))
    assert (interval.value, interval.low, interval.high) == (0.5, None, None)


def test_seeded() -> None:
    data = answers(np.random.default_rng(2).random(50) < 0.5)
    assert bootstrap(accuracy, data, seed=1) == bootstrap(accuracy, data, seed=1)
    assert bootstrap(accuracy, data, seed=1) != bootstrap(accuracy, data, seed=2)


def test_pairing_cancels_what_both_find_hard() -> None:
    hard = np.arange(300) % 3 == 0
    better = ~hard
    worse = better.copy()
    worse[np.flatnonzero(better)[:12]] = False
    difference = paired_bootstrap(accuracy, answers(worse), answers(better))
    apart = bootstrap(accuracy, answers(better))
    assert difference.interval.value == pytest.approx(12 / 300)
    assert difference.clear
    assert difference.p_value is not None
    assert difference.p_value < 0.01
    width = difference.interval.high - difference.interval.low  # type: ignore[operator]
    assert width < (apart.high - apart.low) / 2  # type: ignore[operator]
    same = paired_bootstrap(accuracy, answers(better), answers(better))
    assert (same.interval.value, same.p_value, same.clear) == (0, 1.0, False)


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(4)
    steady = [answers(rng.random(400) < 0.7) for _ in range(3)]
    erratic = [answers(rng.random(400) < p) for p in (0.5, 0.7, 0.9)]
    a, b = bootstrap(accuracy, steady), bootstrap(accuracy, erratic)
    assert b.high - b.low > 2 * (a.high - a.low)  # type: ignore[operator]
    assert b.over == "400 clips, 3 seeds"


def test_runs_on_other_clips_are_not_compared() -> None:
    whole = answers(np.ones(5, bool))
    with pytest.raises(ValueError, match="same clips"):
        paired_bootstrap(accuracy, whole, whole.rows(np.array([0, 1, 2, 4, 3])))


def test_t_interval_is_students() -> None:
    from scipy import stats

    values = [0.80, 0.85, 0.79, 0.9, 0.82]
    interval = t_interval(values, over="folds")
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.over == "5 folds"
    assert t_interval([0.8]).low is None
    cut = t_interval([0.3, 0.9], bounds=(0, 1))
    assert (cut.low, cut.high) == (0, 1)


def test_crossed_interval_does_not_count_cells_as_values() -> None:
    """Ten seeds that all give the same fold scores add no knowledge about folds."""
    folds = np.array([[0.7, 0.8, 0.75, 0.9, 0.6]])
    one, ten = crossed_interval(folds), crossed_interval(np.repeat(folds, 10, axis=0))
    assert ten.high - ten.low == pytest.approx(one.high - one.low, abs=0.01)  # type: ignore[operator]
    assert ten.over == "10 seeds x 5 folds"
    assert one.over == "1 seed x 5 folds"
    assert crossed_interval(np.array([[0.7]])).low is None


def test_scorecard_names_what_it_cannot_score() -> None:
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]], np.float32)
    card = scorecard(Answers(("a", "b", "c"), scores, targets, True))
    assert card.clips == 2
    assert set(SINGLE) - set(card.figures) == {"AUC"}
    assert card.figures["accuracy"].value == 0.5
    text = " ".join(card.notes)
    for part in ("1 clips carry none", "No test clip holds b, c", "AUC cannot be given"):
        assert part in text
    plain = card.to_dict()
    assert plain["confusion"] == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_scorecard_of_seeds_is_their_mean() -> None:
    rng = np.random.default_rng(5)
    runs = [answers(rng.random(30) < p) for p in (0.5, 0.9)]
    card = scorecard(runs)
    singles = [scorecard(run).figures["accuracy"].value for run in runs]
    assert card.figures["accuracy"].value == pytest.approx(np.mean(singles))
    assert card.confusion is not None
    assert card.confusion.sum() == 60
    assert card.per_class[0]["recall"] == pytest.approx(np.mean(singles))
