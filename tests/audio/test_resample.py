from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.audio import resample
from sonoformer.errors import UserError


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 3000),
    rate_in=st.sampled_from([8000, 11025, 16000, 44100, 96000]),
    rate_out=st.sampled_from([8000, 16000, 22050, 48000]),
)
def test_length(samples: int, rate_in: int, rate_out: int) -> None:
    y = resample(np.ones(samples, np.float32), rate_in, rate_out)
    assert y.dtype == np.float32
    assert abs(len(y) - samples * rate_out / rate_in) <= 1
    assert (len(y) > 0) == (samples > 0)


def test_what_the_new_rate_cannot_hold_is_removed() -> None:
    times = np.arange(44100) / 44100
    low = np.sin(2 * np.pi * 3000 * times)
    high = np.sin(2 * np.pi * 9000 * times)
    y = resample((low + high).astype(np.float32), 44100, 16000)
    want = np.sin(2 * np.pi * 3000 * np.arange(16000) / 16000)
    np.testing.assert_allclose(y[500:-500], want[500:-500], atol=1e-4)


def test_channels_stay_apart() -> None:
    x = np.random.default_rng(0).standard_normal((4410, 3)).astype(np.float32)
    y = resample(x, 44100, 16000)
    assert y.shape == (1600, 3)
    for channel in range(3):
        np.testing.assert_allclose(y[:, channel], resample(x[:, channel], 44100, 16000), atol=1e-6)


def test_the_same_rate_changes_nothing() -> None:
    x = np.random.default_rng(0).standard_normal(100)
    np.testing.assert_array_equal(resample(x, 8000, 8000), x.astype(np.float32))


@pytest.mark.parametrize("rates", [(0, 16000), (16000, 0), (16000.5, 8000), (8000, -1)])
def test_rates_that_are_none(rates: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="sample_rate"):
        resample(np.zeros(10), *rates)
