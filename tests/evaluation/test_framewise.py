"""The framewise probe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.evaluation.framewise import FrameConfig, Frames, around, fit_frames

QUICK = FrameConfig(rates=(2e-2,), epochs=8, blocks=2)


@given(st.integers(1, 9), st.floats(0.01, 0.5), st.integers(0, 2**16))
def test_around_is_numpys_interpolation(columns: int, step: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = 0.1 + step * np.arange(columns)
    asked = rng.uniform(-0.5, times[-1] + 0.5, 20)
    values = rng.normal(size=columns)
    left, share = around(times, asked)
    right = np.minimum(left + 1, columns - 1)
    found = (1 - share) * values[left] + share * values[right]
    assert np.abs(found - np.interp(asked, times, values)).max() < 1e-5


def problem(seed: int = 0, dim: int = 12) -> tuple[Frames, np.ndarray]:
    """Columns every 4 frames; the class is linear in the interpolated features."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(500, dim)).astype(np.float32) * np.logspace(-1, 1, dim)
    times = np.arange(500) * 0.04
    left, share = around(times, np.arange(1990) * 0.01 + 0.005)
    between = columns[left] * (1 - share)[:, None] + columns[left + 1] * share[:, None]
    truth = (between @ np.random.default_rng(9).normal(size=(dim, 3))).argmax(1)
    names = np.array([f"r{i // 200}" for i in range(1990)])
    return Frames(columns.astype(np.float16), left, share, truth), names


def test_it_learns_and_equals_a_classifier_of_interpolated_features() -> None:
    frames, names = problem()
    probe = fit_frames(frames, 3, groups=names, config=QUICK)
    other, _ = problem(1)
    scores = probe.probabilities(other)
    assert (scores.argmax(1) == other.truth).mean() > 0.7
    x = other.columns.astype(np.float32)
    x = x[other.left] * (1 - other.share)[:, None] + x[other.left + 1] * other.share[:, None]
    weight, bias = probe.head.weight.detach().numpy(), probe.head.bias.detach().numpy()
    logits = ((x - probe.mean.numpy()) / probe.std.numpy()) @ weight.T + bias
    direct = np.exp(logits - logits.max(1, keepdims=True))
    assert np.abs(direct / direct.sum(1, keepdims=True) - scores).max() < 1e-3


def test_a_hidden_layer_learns_what_a_linear_one_cannot() -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(1500, 2)).astype(np.float32)
    truth = (columns[:, 0] * columns[:, 1] > 0).astype(np.int64)
    frames = Frames(columns, np.arange(1500), np.zeros(1500, np.float32), truth)
    names = np.array([f"r{i // 100}" for i in range(1500)])
    right = [
        (fit_frames(frames, 2, groups=names, hidden=h, config=QUICK).probabilities(frames).argmax(1)
         == truth).mean()
        for h in (0, 32)
    ]  # fmt: skip
    assert right[0] < 0.65
    assert right[1] > 0.85


def test_the_rate_is_chosen_in_training_and_all_is_seeded() -> None:
    frames, names = problem()
    config = FrameConfig(rates=(1e-6, 2e-2), epochs=2, blocks=2)
    a, b = (fit_frames(frames, 3, groups=names, config=config, seed=2) for _ in range(2))
    assert a.rate == 2e-2
    assert (a.head.weight == b.head.weight).all()


def test_one_class_is_refused() -> None:
    frames, names = problem()
    alone = Frames(frames.columns, frames.left, frames.share, np.zeros_like(frames.truth))
    with pytest.raises(UserError, match="two classes"):
        fit_frames(alone, 3, groups=names)


@pytest.mark.parametrize(
    "change", [{"rates": (0.0,)}, {"epochs": 0}, {"weight_decay": -0.1}, {"folds": 1}]
)
def test_options_are_checked(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        FrameConfig(**change)
