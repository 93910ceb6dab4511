"""Recordings played faster or slower to a model; times stay those of the recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sonoformer.audio import read, write
from sonoformer.encoders import (
    SHAPES,
    PatchEncoder,
    load_encoder,
    new_encoder,
    save_encoder,
    with_speed,
)
from sonoformer.errors import UserError
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.start import make_encoder


@pytest.fixture
def encoder() -> PatchEncoder:
    torch.manual_seed(0)
    return new_encoder(SHAPES["ast"]("micro", "patch")).eval()


def tone(path: Path, hertz: float, seconds: float, rate: int) -> Path:
    # The sound swells, so that frames differ.
    time = np.arange(round(seconds * rate)) / rate
    write(path, (0.5 * time / seconds * np.sin(2 * np.pi * hertz * time)).astype("f"), rate)
    return path


def test_20_hz_at_speed_10_is_heard_as_200_hz(tmp_path: Path, encoder: PatchEncoder) -> None:
    slow = tone(tmp_path / "slow.wav", 20, 20, 4000)
    quick = tone(tmp_path / "quick.wav", 200, 2, 40000)
    fast = with_speed(encoder, 10)
    assert (fast.sample_rate, encoder.sample_rate) == (1600, 16000)
    heard = []
    for one, path in ((fast, slow), (encoder, quick)):
        wave = torch.from_numpy(read(path, one.sample_rate))[None]
        spec, _ = one.front(wave)
        heard.append(spec)
        loudest = spec[0, spec.shape[1] // 2 :].mean(0).argmax()
        assert 10 <= loudest <= 11  # mel filters whose middles lie beside 200 Hz
    torch.testing.assert_close(heard[0], heard[1], atol=2e-3, rtol=0)
    assert fast.seconds_per_token == pytest.approx(10 * encoder.seconds_per_token)


def test_windows_are_seconds_of_the_recording(tmp_path: Path, encoder: PatchEncoder) -> None:
    slow = tone(tmp_path / "slow.wav", 20, 20, 4000)
    quick = tone(tmp_path / "quick.wav", 200, 2, 40000)
    one = with_speed(encoder, 10).embed(str(slow), window=10)
    two = encoder.embed(str(quick), window=1)
    torch.testing.assert_close(one, two, atol=2e-3, rtol=0)


def test_the_speed_is_saved_with_the_model(tmp_path: Path, encoder: PatchEncoder) -> None:
    save_encoder(with_speed(encoder, 10), tmp_path / "fast", "a card")
    again = load_encoder(tmp_path / "fast")
    assert again.config.front.speed == 10
    assert again.sample_rate == 1600


def test_fine_tuning_sets_the_speed_of_a_checkpoint(encoder: PatchEncoder) -> None:
    faster = FinetuneConfig(front=FbankConfig(speed=10), seconds=20)
    made = make_encoder(encoder, faster, 0)
    assert made.sample_rate == 1600
    assert made.config.front == replace(encoder.config.front, speed=10)
    # Left away, it stays as it is.
    assert make_encoder(made, FinetuneConfig(seconds=20), 0).sample_rate == 1600
    other = FinetuneConfig(front=FbankConfig(speed=10, n_mels=64))
    with pytest.raises(UserError, match=r"front\.speed excepted"):
        make_encoder(encoder, other, 0)


def test_speeds_make_whole_sample_rates() -> None:
    assert FbankConfig(speed=0.1).rate == 160_000
    assert PretrainConfig(front=FbankConfig(speed=10)).front.step_ms == 100
    with pytest.raises(UserError, match=r"3 times as fast would be 5333\.33 Hz .* take 3\.00"):
        FbankConfig(speed=3)
    for speed in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="speed"):
            FbankConfig(speed=speed)
