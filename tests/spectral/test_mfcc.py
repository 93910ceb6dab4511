"""Cepstral coefficients against the definition of the cosine transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.mfcc import Gfcc, GfccConfig, Mfcc, MfccConfig, cosine_transform

SMALL = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=20, compression="db")


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_cosine_transform_is_orthonormal_and_its_definition() -> None:
    table = cosine_transform(12, 12)
    assert torch.allclose(table.T @ table, torch.eye(12, dtype=torch.float64), atol=1e-12)
    for k in range(12):
        scale = math.sqrt((1 if k == 0 else 2) / 12)
        for n in range(12):
            exact = scale * math.cos(math.pi * k * (2 * n + 1) / 24)
            assert table[n, k].item() == pytest.approx(exact, abs=1e-12)


def test_coefficients_are_the_transform_of_the_levels() -> None:
    wave, lengths = noise(2, 3000), torch.tensor([3000, 1000])
    level, _ = MelSpectrogram(SMALL)(wave, lengths)
    found, frames = Mfcc(n_mfcc=13, mel=SMALL)(wave, lengths)
    assert found.shape == (2, 47, 13)
    assert frames.tolist() == [47, 16]
    exact = level.double() @ cosine_transform(20, 13)
    assert (found - exact).abs().max() < 1e-4
    lifted, _ = Mfcc(n_mfcc=13, lifter=22.0, mel=SMALL)(wave, lengths)
    order = np.arange(13)
    weight = 1 + 11 * np.sin(np.pi * (order + 1) / 22)
    assert np.abs(lifted.numpy() - exact.numpy() * weight).max() < 1e-3


@pytest.mark.slow
def test_agrees_with_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    wave = noise(30000)
    for lifter in (0, 22):
        exact = librosa.feature.mfcc(y=wave.double().numpy(), lifter=lifter)
        found, _ = Mfcc(
            lifter=float(lifter), mel=MelConfig(compression="db", top_db=80.0, pad_mode="zeros")
        )(wave)
        assert np.abs(found.numpy() - exact.T).max() < 1e-3


def test_gammatone_coefficients() -> None:
    wave = noise(3000)
    config = GfccConfig(n_mfcc=8)
    found, frames = Gfcc(config)(wave)
    level, _ = MelSpectrogram(config.mel)(wave)
    assert config.mel.kind == "gammatone"
    assert frames.item() == config.frames(3000)
    assert (found - level.double() @ cosine_transform(64, 8)).abs().max() < 1e-5
    assert Gfcc(n_mfcc=5)(wave)[0].shape[-1] == 5


def test_gradients_and_number_formats() -> None:
    mel = MelConfig(sample_rate=1000, n_fft=16, hop_length=8, n_mels=4, low_hz=100.0)
    mfcc = Mfcc(n_mfcc=3, mel=mel).double()
    wave = noise(1, 40).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: mfcc(w)[0], wave)
    assert not mfcc.state_dict()
    mfcc, sound = Mfcc(n_mfcc=13, mel=SMALL), noise(2, 1000)
    plain, _ = mfcc(sound)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mfcc.half()(sound)[0], plain)


def test_learnt_filters_can_be_reset() -> None:
    mfcc = Mfcc(mel=MelConfig(n_fft=256, n_mels=20, trainable_filters="edges"))
    first, _ = mfcc(noise(1000))
    with torch.no_grad():
        mfcc.mel.bank.steps.add_(torch.rand(21, generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(mfcc(noise(1000))[0], first, atol=1e-2)
    mfcc.reset_to_analytic()
    assert torch.allclose(mfcc(noise(1000))[0], first, atol=1e-4)


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="n_mfcc: must be a whole number within 1 to 20"):
        MfccConfig(n_mfcc=21, mel=SMALL)
    with pytest.raises(UserError, match="lifter"):
        Mfcc(lifter=-1.0)
    with pytest.raises(UserError, match="no option"):
        Gfcc(n_gfcc=3)
