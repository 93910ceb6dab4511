"""Published filter banks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sonoformer.spectral.kaldi import FbankConfig, KaldiFbank
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.presets import FILTERBANKS


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def whisper(wave: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The model's published steps in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(wave, 200, mode="reflect")
    starts = range(0, len(padded) - 399, 160)
    power = [np.abs(np.fft.rfft(padded[s : s + 400] * window)) ** 2 for s in starts][:-1]
    level = np.log10(np.maximum(np.array(power) @ weights, 1e-10))
    return (np.maximum(level, level.max() - 8) + 4) / 4


@pytest.mark.parametrize(("name", "n_mels"), [("whisper", 80), ("whisper-large-v3", 128)])
def test_whisper(name: str, n_mels: int) -> None:
    config = FILTERBANKS[name]
    assert isinstance(config, MelConfig)
    wave = noise(16000) * (torch.arange(16000) < 10000)
    found, frames = MelSpectrogram(config)(wave)
    exact = whisper(wave.double().numpy(), config.filters.analytic_weights().numpy())
    assert found.shape == exact.shape == (100, n_mels)
    assert frames.item() == 100
    assert np.abs(found.numpy() - exact).max() < 1e-4
    assert exact.min() == pytest.approx(exact.max() - 2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_mels"), [("whisper", 80), ("whisper-large-v3", 128)])
def test_whisper_agrees_with_transformers(name: str, n_mels: int) -> None:
    transformers = pytest.importorskip("transformers")
    wave = torch.nn.functional.pad(noise(40000), (0, 30 * 16000 - 40000))
    extractor = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    exact = extractor(wave.numpy(), sampling_rate=16000)["input_features"][0].T
    config = FILTERBANKS[name]
    assert isinstance(config, MelConfig)
    found, _ = MelSpectrogram(config)(wave)
    assert np.abs(found.numpy() - exact).max() < 1e-4


def test_kaldi_filter_banks() -> None:
    assert FILTERBANKS["ast"] == FbankConfig()
    config = FILTERBANKS["kaldi"]
    assert isinstance(config, FbankConfig)
    spec, frames = KaldiFbank(config)(noise(1, 16000))
    assert spec.shape == (1, 98, 23)
    assert frames.tolist() == [98]
