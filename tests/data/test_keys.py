"""Keyed randomness: the same everywhere, different anywhere else, and uniform."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.keys import below, generator, key, numpy_generator, uniforms

whole = st.integers(-(2**63), 2**63 - 1)


def test_known_values_do_not_change_between_versions() -> None:
    assert key(0) == 0xE220A8397B1DCDAF >> 1  # the first number of SplitMix64 from 0
    assert key(3, "crop", 1, 2) == 6094603665968989990
    assert uniforms(key(3, "noise", 1, 2), 3).tolist() == [
        0.8921394348144531,
        0.6946018934249878,
        0.6898655891418457,
    ]


@given(whole, st.lists(whole | st.text(), max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_key_is_a_pure_function_of_63_bits(seed: int, parts: list[int | str]) -> None:
    assert key(seed, *parts) == key(seed, *parts)
    assert 0 <= key(seed, *parts) < 2**63


def test_neighbouring_places_and_streams_share_nothing() -> None:
    places = itertools.product(range(3), "ab", range(5), range(9))
    keys = [key(*place) for place in places]
    assert len(set(keys)) == len(keys)
    assert key(1, 2, 3) != key(1, 3, 2)
    flips = [bin(a ^ b).count("1") for a, b in itertools.pairwise(keys)]
    assert 30 < np.mean(flips) < 33  # half of 63 bits


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    x = np.concatenate([uniforms(key(0, i), 1000) for i in range(100)])
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() < 1
    counts = np.histogram(x, 50, (0, 1))[0]
    # Chi-square of 49 degrees of freedom: above 85 once in a thousand.
    assert ((counts - 2000) ** 2 / 2000).sum() < 85
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.01


def test_the_first_uniforms_do_not_depend_on_the_count() -> None:
    assert (uniforms(5, 10) == uniforms(5, 1000)[:10]).all()


@given(st.integers(1, 2**40), whole)
@settings(max_examples=50, deadline=None)
def test_below_stays_below(count: int, seed: int) -> None:
    assert 0 <= below(count, seed, "x") < count


def test_below_is_even() -> None:
    counts = np.bincount([below(7, 0, i) for i in range(7000)], minlength=7)
    assert abs(counts - 1000).max() < 130


def test_generators_start_from_the_key() -> None:
    one, again = (torch.rand(5, generator=generator(1, "x", 2)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, torch.rand(5, generator=generator(1, "x", 3)))
    assert numpy_generator(1, "x").random() == numpy_generator(1, "x").random()
    assert numpy_generator(1, "x").random() != numpy_generator(1, "y").random()
