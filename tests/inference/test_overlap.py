"""Overlap-add of windows: every column once, in order, with the weights that are promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.inference.overlap import OverlapAdd, WindowPlan


def through(plan: WindowPlan, windows: list[np.ndarray]) -> np.ndarray:
    adder = OverlapAdd(plan, windows[0].shape[1])
    parts = [adder.add(number, window) for number, window in enumerate(windows)]
    return np.concatenate([*parts, adder.end()])


JOINS = st.sampled_from(["triangle", "centre"])


@given(st.integers(1, 60), st.integers(1, 12), st.floats(0, 0.9), JOINS)
def test_windows_of_one_track_give_it_back(
    length: int, columns: int, overlap: float, join: str
) -> None:
    plan = WindowPlan.of(columns, overlap, join)  # type: ignore[arg-type]
    track = np.random.default_rng(length).normal(size=(length, 3)).astype(np.float32)
    windows = [track[i * plan.hop :][:columns] for i in range(plan.count(length))]
    assert through(plan, windows) == pytest.approx(track, abs=1e-6)
    assert (plan.count(length) - 1) * plan.hop + columns >= length


def test_means_are_weighted_by_the_distance_to_the_ends() -> None:
    plan = WindowPlan(4, 2)
    ones, zeros = np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)
    assert through(plan, [ones, zeros])[:, 0] == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0])
    centre = through(WindowPlan(4, 2, "centre"), [ones, zeros])[:, 0]
    assert centre == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-6)


def test_memory_is_that_of_a_window() -> None:
    adder = OverlapAdd(WindowPlan(6, 3), 2)
    for number in range(50):
        out = adder.add(number, np.ones((6, 2), np.float32))
        assert len(out) == (3 if number else 0)
        assert len(adder._sums) == 6


def test_a_window_that_is_left_out_is_noticed() -> None:
    adder = OverlapAdd(WindowPlan(4, 4), 1)
    adder.add(0, np.ones((4, 1), np.float32))
    with pytest.raises(ValueError, match="window 2"):
        adder.add(2, np.ones((4, 1), np.float32))
    with pytest.raises(UserError, match="overlap"):
        WindowPlan.of(4, 1.0)
