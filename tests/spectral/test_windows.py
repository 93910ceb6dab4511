"""Windows: their formulas, symmetry, and where a short one stands."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch

from sonoformer.errors import UserError
from sonoformer.spectral.windows import WindowName, centred, window

NAMES = get_args(WindowName)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [8, 9, 400])
def test_a_periodic_window_is_a_symmetric_one_without_its_last_sample(
    name: WindowName, length: int
) -> None:
    longer = window(name, length + 1, periodic=False)
    assert torch.allclose(window(name, length), longer[:-1], rtol=0, atol=1e-12)
    assert torch.allclose(longer, longer.flip(0), rtol=0, atol=1e-12)
    assert longer.dtype == torch.float64
    assert longer.min() >= 0
    assert longer.max() <= 1 + 1e-12


def test_are_those_of_numpy_and_torch() -> None:
    for name, reference in (
        ("hann", np.hanning),
        ("hamming", np.hamming),
        ("blackman", np.blackman),
        ("bartlett", np.bartlett),
    ):
        found = window(name, 31, periodic=False).numpy()  # type: ignore[arg-type]
        assert np.abs(found - reference(31)).max() < 1e-12
    assert torch.allclose(window("hann", 400), torch.hann_window(400, dtype=torch.float64))
    assert window("rectangular", 7).tolist() == [1.0] * 7


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_agree_with_scipy(name: WindowName) -> None:
    signal = pytest.importorskip("scipy.signal")
    if name == "povey":
        reference = signal.get_window("hann", 50) ** 0.85
    else:
        reference = signal.get_window("boxcar" if name == "rectangular" else name, 50)
    assert np.abs(window(name, 50).numpy() - reference).max() < 1e-12


def test_a_single_sample_is_one_and_a_short_window_stands_in_the_middle() -> None:
    assert window("hann", 1).tolist() == [1.0]
    assert centred(torch.ones(4), 8).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert centred(torch.ones(3), 6).tolist() == [0, 1, 1, 1, 0, 0]


def test_hann_windows_add_up_to_a_constant() -> None:
    total = window("hann", 64).unflatten(0, (4, 16)).sum(0)
    assert torch.allclose(total, torch.full((16,), 2.0, dtype=torch.float64))
    assert math.isclose(window("povey", 64)[16].item(), 0.5**0.85)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="window: must be one of"):
        window("hanning", 8)  # type: ignore[arg-type]
