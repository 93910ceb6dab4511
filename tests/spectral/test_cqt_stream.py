"""Sound in chunks: the same frames however it is cut, near the inner products."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixture_rules import note
from tests.spectral.direct_cqt import direct, sounds
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.cqt import Cqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.cqt_stream import CqtStream

CONFIG = CqtConfig(sample_rate=8000, hop_length=128, fmin=55.0, n_bins=60, output="complex")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def streamed(stream: CqtStream, wave: Tensor, sizes: list[int]) -> Tensor:
    state, found, start = stream.stream_state(wave.shape[:-1]), [], 0
    for size in [*sizes, wave.shape[-1]]:
        frames, state = stream.stream(wave[..., start : start + size], state)
        found.append(frames)
        start += size
    return torch.cat([*found, stream.flush(state)], -2)


@pytest.mark.parametrize("sound", ["noise", "tones", "clicks", "sweep"])
@pytest.mark.parametrize("options", [{}, {"bins_per_octave": 24, "fmin": 220.0}, {"gamma": 20.0}])
def test_near_the_inner_products(sound: str, options: dict) -> None:
    config = replace(CONFIG, **options)
    wave = sounds(16000, 8000)[sound]
    exact = direct(wave, config)
    found = streamed(CqtStream(config), wave, [1000, 3, 4000])
    gap = ((found - exact).abs().max() / exact.abs().max()).item()
    note("streaming CQT", gap)
    assert found.shape == exact.shape
    assert gap < 1e-4


STREAM = CqtStream(CONFIG)


@settings(max_examples=20, deadline=None)
@given(
    samples=st.integers(1, 9000),
    sizes=st.lists(st.integers(0, 4000), max_size=5),
)
def test_chunks_do_not_matter(samples: int, sizes: list[int]) -> None:
    wave = noise(2, samples)
    whole, cut = streamed(STREAM, wave, []), streamed(STREAM, wave, sizes)
    assert whole.shape == (2, 1 + samples // 128, 60)
    assert (whole - cut).abs().max() < 1e-5


@settings(max_examples=12, deadline=None)
@given(
    samples=st.integers(1, 9000),
    mode=st.sampled_from(["reflect", "zeros", "replicate"]),
    center=st.booleans(),
    hop=st.sampled_from([37, 128, 200]),
)
def test_ends_as_the_whole_clip_does(samples: int, mode: str, center: bool, hop: int) -> None:
    config = replace(CONFIG, hop_length=hop, pad_mode=mode, center=center)
    wave = noise(samples)
    found, wanted = streamed(CqtStream(config), wave, [500]), Cqt(config)(wave)[0]
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 3e-4


def test_frames_come_when_they_are_promised() -> None:
    state, wave = STREAM.stream_state(), noise(8000)
    late = STREAM.latency_samples
    frames, state = STREAM.stream(wave[: late - 1], state)
    assert len(frames) == 0
    for expected in range(3):
        place = late + expected * 128
        frames, state = STREAM.stream(wave[int(state.heard) : place], state)
        assert len(frames) == 1


def test_low_bins_are_computed_at_low_rates_and_little_is_kept() -> None:
    factors = [rate.factor for rate in STREAM._rates]
    assert factors == [1, 2, 4, 8, 16]
    state = STREAM.stream_state()
    for _ in range(50):
        _, state = STREAM.stream(noise(1000), state)
    assert sum(sound.numel() for sound in state.sound) < 5 * STREAM.latency_samples
    assert state.sound[0].untyped_storage().nbytes() < 4 * 5 * STREAM.latency_samples


def test_states_are_not_changed() -> None:
    state = STREAM.stream_state()
    _, state = STREAM.stream(noise(6000), state)
    before = [part.clone() for part in state.sound]
    one, _ = STREAM.stream(noise(700, seed=1), state)
    two, _ = STREAM.stream(noise(700, seed=1), state)
    assert torch.equal(one, two)
    assert all(torch.equal(a, b) for a, b in zip(before, state.sound, strict=True))


def test_magnitudes_and_batches() -> None:
    stream = CqtStream(replace(CONFIG, output="magnitude"))
    wave = noise(2, 3, 3000)
    found = streamed(stream, wave, [100])
    assert found.shape == (2, 3, 24, 60)
    assert (found[1, 2] - streamed(STREAM, wave[1, 2], []).abs()).abs().max() < 1e-5


def test_refuses() -> None:
    with pytest.raises(UserError, match="trainable"):
        CqtStream(trainable=True)
    with pytest.raises(ValueError, match="chunk"):
        STREAM.stream(noise(2, 10), STREAM.stream_state((3,)))
