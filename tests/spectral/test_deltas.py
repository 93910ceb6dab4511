"""Deltas against a polynomial fitted frame by frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.spectral.deltas import deltas


def fitted(rows: np.ndarray, width: int, order: int) -> np.ndarray:
    """The derivative at the middle of the polynomial that fits best, with repeated ends."""
    half = width // 2
    rows = np.pad(rows, ((half, half), (0, 0)), mode="edge")
    place = np.arange(-half, half + 1)
    found = []
    for start in range(len(rows) - width + 1):
        best = np.polyfit(place, rows[start : start + width], order)
        found.append(math.factorial(order) * best[0])
    return np.array(found)


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    width=st.sampled_from([3, 5, 9]),
    order=st.integers(1, 2),
)
def test_are_the_derivative_of_what_fits_best(lengths: list[int], width: int, order: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(lengths), max(lengths) + 2, 4, generator=generator).double()
    found = deltas(rows, torch.tensor(lengths), width=width, order=order)
    for row, length in enumerate(lengths):
        exact = fitted(rows[row, :length].numpy(), width, order)
        assert np.abs(found[row, :length].numpy() - exact).max() < 1e-9
        alone = deltas(rows[row, :length], width=width, order=order)
        assert torch.equal(alone, found[row, :length])


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_agree_with_librosa(order: int) -> None:
    librosa = pytest.importorskip("librosa")
    rows = torch.randn(40, 13, generator=torch.Generator().manual_seed(0)).double()
    exact = librosa.feature.delta(rows.numpy(), order=order, axis=0, mode="nearest")
    assert np.abs(deltas(rows, order=order).numpy() - exact).max() < 1e-10


def test_gradients_and_shapes() -> None:
    rows = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: deltas(r, torch.tensor([6, 2]), width=5), rows)
    assert deltas(torch.zeros(3, 0, 4)).shape == (3, 0, 4)


def test_options_that_cannot_be_are_refused() -> None:
    for width in (1, 4):
        with pytest.raises(UserError, match="width"):
            deltas(torch.zeros(5, 2), width=width)
    with pytest.raises(UserError, match="order"):
        deltas(torch.zeros(5, 2), width=3, order=3)
