"""Running statistics: any split into batches gives the same, padding counts for nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.spectral import FbankConfig, FrontEnd, RunningStatistics, measure


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) - 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 100))
def test_any_split_into_batches_gives_the_same(sizes: list[int], seed: int) -> None:
    spec = values(sum(sizes), 7, 4, seed=seed)
    running = RunningStatistics()
    for part in spec.split(sizes):
        running.update(part)
    found = running.result()
    assert found.frames == spec.shape[0] * 7
    assert found.mean == pytest.approx(spec.double().mean().item(), abs=1e-9)
    assert found.std == pytest.approx(spec.double().std(correction=0).item(), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=5))
def test_padding_counts_for_nothing(lengths: list[int]) -> None:
    lengths[0] = 9
    spec = values(len(lengths), 9, 4)
    real = torch.cat([row[:length] for row, length in zip(spec, lengths, strict=True)]).double()
    for row, length in zip(spec, lengths, strict=True):
        row[length:] = float("nan")
    running = RunningStatistics()
    running.update(spec, torch.tensor(lengths))
    found = running.result()
    assert found.frames == sum(lengths)
    assert found.mean == pytest.approx(real.mean().item(), abs=1e-9)
    assert found.std == pytest.approx(real.std(correction=0).item(), abs=1e-9)


def test_merging_two_passes_is_one_pass() -> None:
    spec = values(10, 8, 4)
    parts = RunningStatistics(), RunningStatistics()
    parts[0].update(spec[:3])
    parts[1].update(spec[3:])
    parts[0].merge(parts[1])
    parts[0].merge(RunningStatistics())
    whole = RunningStatistics()
    whole.update(spec)
    one, other = parts[0].result(), whole.result()
    assert one.frames == other.frames == 80
    assert one.mean == pytest.approx(other.mean, abs=1e-12)
    assert one.std == pytest.approx(other.std, abs=1e-12)


def test_a_large_offset_costs_no_precision() -> None:
    spec = values(4, 50, 8).double() + 1e7
    running = RunningStatistics()
    for part in spec:
        running.update(part[None])
    assert running.result().std == pytest.approx(spec.std(correction=0).item(), rel=1e-9)


def test_values_that_are_no_numbers_are_refused() -> None:
    spec = values(2, 4, 3)
    spec[1, 2, 0] = float("nan")
    with pytest.raises(UserError, match="NaN or infinite"):
        RunningStatistics().update(spec)


def test_nothing_and_silence_are_refused() -> None:
    running = RunningStatistics()
    with pytest.raises(UserError, match="no sound"):
        running.result()
    running.update(torch.zeros(2, 0, 4))
    with pytest.raises(UserError, match="no sound"):
        running.result()
    running.update(torch.full((2, 5, 4), -15.9424))
    with pytest.raises(UserError, match="silent"):
        running.result()


def test_measured_statistics_normalise_the_sound_they_were_measured_on() -> None:
    lengths = torch.tensor([16000, 9000, 5000, 16000])
    wave = 0.2 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(1))
    wave[torch.arange(16000) >= lengths.unsqueeze(1)] = 0
    batches = list(zip(wave.split(2), lengths.split(2), strict=True))
    found = measure(FrontEnd(), batches)
    front = FrontEnd(found.apply(FbankConfig()))
    spec, frames = front(wave, lengths)
    real = spec[torch.arange(spec.shape[1]) < frames.unsqueeze(1)]
    assert found.frames == frames.sum().item()
    assert real.mean().item() == pytest.approx(0, abs=1e-5)
    assert real.std().item() == pytest.approx(0.5, abs=1e-3)
