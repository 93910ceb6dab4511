"""Continuing clips past their ends: numpy's rules, every clip at its own end."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.spectral.framing import PadMode
from sonoformer.spectral.padding import continued, extend

NUMPY = {"reflect": "reflect", "zeros": "constant", "replicate": "edge"}
MODES = st.sampled_from(["reflect", "zeros", "replicate"])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    before=st.integers(0, 40),
    after=st.integers(0, 40),
    mode=MODES,
    given_lengths=st.booleans(),
)
def test_as_numpy_pads(
    lengths: list[int], before: int, after: int, mode: PadMode, given_lengths: bool
) -> None:
    longest = max(lengths)
    if not given_lengths:
        lengths = [longest] * len(lengths)
    rows = [np.random.default_rng(n).normal(size=n) for n in lengths]
    batch = torch.full((len(rows), longest), 99.0, dtype=torch.float64)
    for row, target in zip(rows, batch, strict=True):
        target[: len(row)] = torch.from_numpy(row)
    ends = torch.tensor(lengths) if given_lengths else None
    found = extend(batch, before, after, mode, ends)
    for row, padded in zip(rows, found, strict=True):
        wanted = np.pad(row, (before, after + longest - len(row)), mode=NUMPY[mode])
        assert np.array_equal(padded.numpy(), wanted)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 20),
    before=st.integers(-25, 25),
    after=st.integers(-25, 25),
    mode=MODES,
)
def test_less_than_nothing_cuts(samples: int, before: int, after: int, mode: PadMode) -> None:
    if samples + before + after < 0:
        return
    wave = torch.arange(1.0, samples + 1).unsqueeze(0)
    wide = extend(wave, 60, 60, mode)[0]
    found = extend(wave, before, after, mode)[0]
    assert torch.equal(found, wide[60 - before : 60 + samples + after])


def test_tells_what_is_inside() -> None:
    index, inside = continued(torch.arange(-2, 5), torch.tensor(3), "reflect")
    assert index.tolist() == [2, 1, 0, 1, 2, 1, 0]
    assert inside.tolist() == [False, False, True, True, True, False, False]
