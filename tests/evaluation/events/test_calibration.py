"""Calibration: what scikit-learn fits, scores that come true, classes that say nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from sonoformer.errors import UserError
from sonoformer.evaluation.events.calibration import (
    Calibration,
    ClassCalibration,
    Method,
    calibrate,
    calibration_error,
    reliability,
)
from sonoformer.evaluation.events.frames import FrameScores
from sonoformer.evaluation.events.precision import frame_thresholds, precise_threshold

NAMES = ("roar", "never")


def overconfident(seed: int, frames: int = 4000) -> FrameScores:
    """Logits three times as large as they should be."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, frames)
    truth = rng.random(frames) < 1 / (1 + np.exp(-logits))
    scores = 1 / (1 + np.exp(-3 * logits))
    both = np.stack([scores, scores], 1).astype(np.float32)
    return FrameScores(f"{seed}.wav", both, 0.1, truth=np.stack([truth, np.zeros(frames, bool)], 1))


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_calibrated_scores_come_true_on_other_recordings(method) -> None:  # type: ignore[no-untyped-def]
    seen, unseen = [overconfident(n) for n in range(3)], overconfident(9)
    calibration, notes = calibrate(seen, NAMES, method)
    assert notes == ("never: no known frame holds it; its scores are not calibrated.",)
    after = calibration.apply(unseen.scores, NAMES)
    assert unseen.truth is not None
    truth = unseen.truth[:, 0]
    assert calibration_error(unseen.scores[:, 0], truth) > 0.1
    assert calibration_error(after[:, 0], truth) < 0.03
    assert np.array_equal(after[:, 1], unseen.scores[:, 1])


def test_the_temperature_is_the_one_the_scores_were_made_with() -> None:
    fitted = calibrate([overconfident(n) for n in range(4)], NAMES).calibration
    assert fitted.classes["roar"].temperature == pytest.approx(3, rel=0.1)


def weighted(seed: int, weight: float = 20.0) -> FrameScores:
    """Scores of a model whose loss counted a rare class `weight` times: its odds are as many times
    too high."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3.5, 1.5, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-logits))
    scores = 1 / (1 + np.exp(-logits - np.log(weight)))
    return FrameScores(f"{seed}.wav", scores.astype(np.float32)[:, None], 0.1, truth=truth[:, None])


def test_platt_undoes_the_weight_of_a_rare_class_and_a_temperature_cannot() -> None:
    seen, unseen = [weighted(n) for n in range(4)], weighted(9)
    assert unseen.truth is not None
    errors = {}
    methods: tuple[Method, ...] = ("platt", "temperature")
    for method in methods:
        calibration = calibrate(seen, ("call",), method).calibration
        after = calibration.apply(unseen.scores, ("call",))[:, 0]
        errors[method] = calibration_error(after, unseen.truth[:, 0])
        assert (np.diff(after[np.argsort(unseen.scores[:, 0])]) >= 0).all()
    fitted = calibrate(seen, ("call",), "platt").calibration.classes["call"]
    assert fitted.temperature == pytest.approx(1, abs=0.1)
    assert fitted.bias == pytest.approx(-np.log(20), abs=0.2)
    assert errors["platt"] < 0.01 < 0.1 < errors["temperature"]


def test_platt_never_turns_the_order_round() -> None:
    one = overconfident(0)
    assert one.truth is not None
    opposed = FrameScores("a", 1 - one.scores, 0.1, truth=one.truth)
    after = calibrate([opposed], NAMES, "platt").calibration.apply(opposed.scores, NAMES)[:, 0]
    assert after.mean() == pytest.approx(one.truth[:, 0].mean(), abs=0.01)
    assert (np.diff(after[np.argsort(opposed.scores[:, 0])]) >= 0).all()


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
@pytest.mark.parametrize("scores", [[0.1, 0.9], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
def test_extreme_scores_stay_scores(scores: list[float], method: Method) -> None:
    one = FrameScores(
        "a", np.array(scores, np.float32)[:, None], 0.1, truth=np.array([[False], [True]])
    )
    found = calibrate([one], ("x",), method).calibration.apply(one.scores, ("x",))
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60))
def test_isotonic_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 12 for score, _ in rows], np.float32)
    truth = np.array([right for _, right in rows])
    if truth.all() or not truth.any():
        return
    one = FrameScores("a", scores[:, None], 0.1, truth=truth[:, None])
    ours = calibrate([one], ("x",), "isotonic").calibration.classes["x"]
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, truth)
    grid = np.linspace(0, 1, 50).astype(np.float32)
    assert np.allclose(ours.apply(grid), theirs.predict(grid), atol=1e-6)


def test_reliability_counts_every_frame() -> None:
    scores = np.array([0.0, 0.05, 0.55, 1.0], np.float32)
    rows = reliability(scores, np.array([False, False, True, True]), 10)
    assert [row.frames for row in rows] == [2, 1, 1]
    assert [row.share for row in rows] == [0, 1, 1]
    assert calibration_error(scores, np.array([False, False, True, True])) == pytest.approx(
        (2 * 0.025 + 0.45 + 0) / 4
    )
    assert np.isnan(calibration_error(scores[:0], np.zeros(0, bool)))


def test_kept_as_json(tmp_path: Path) -> None:
    calibration = Calibration(
        {"a": ClassCalibration(2.0), "b": ClassCalibration(scores=(0.1, 0.5), shares=(0.0, 0.75))}
    )
    calibration.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == calibration
    broken = {"classes": {"a": {"scores": [0.5, 0.1], "shares": [0, 1]}}}
    (tmp_path / "c.json").write_text(json.dumps(broken))
    with pytest.raises(UserError, match="scores"):
        Calibration.load(tmp_path / "c.json")


def test_the_lowest_threshold_that_is_precise_enough() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    right = np.array([True, True, False, True, False, False])
    item = np.array([0, 1, 2, 0, 1, 2])
    found = precise_threshold("x", scores, right, item, 4, 0.75, resamples=200)
    assert found.threshold is not None
    assert found.threshold.value == 0.6
    assert found.precision is not None
    assert found.precision.value == 0.75
    assert found.recall is not None
    assert found.recall.value == 0.75
    assert precise_threshold("x", scores, right, item, 4, 1.0).threshold.value == 0.8  # type: ignore[union-attr]


def test_the_interval_holds_the_threshold_of_much_more_data() -> None:
    few = [overconfident(seed, 400) for seed in range(1000, 1012)]
    [found, never] = frame_thresholds(few, NAMES, 0.8, resamples=300)
    [truth, _] = frame_thresholds([overconfident(99, 100_000)], NAMES, 0.8)
    assert found.threshold is not None
    assert truth.threshold is not None
    assert found.threshold.low < truth.threshold.value < found.threshold.high
    assert found.precision.low < 0.8 < found.precision.high  # type: ignore[union-attr]
    assert (never.threshold, never.note) == (None, "no true one to judge by")
    assert truth.note == "one recording allows no interval"


def test_a_precision_that_cannot_be_reached_is_said() -> None:
    scores, right = np.array([0.9, 0.8]), np.array([False, True])
    found = precise_threshold("x", scores, right, np.array([0, 1]), 1, 0.9)
    assert found.threshold is None
    assert found.note == "no threshold reaches this precision"
    with pytest.raises(UserError, match="precision"):
        precise_threshold("x", scores, right, np.array([0, 1]), 1, 1.2)
