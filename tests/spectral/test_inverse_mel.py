"""Spectra found for filtered spectrograms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.inverse_mel import InverseMel, InverseMelConfig
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram

SMALL = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=20, kind="htk")


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("compression", ["none", "log", "log10", "db", "root"])
@pytest.mark.parametrize("power", [1, 2])
def test_filtered_again_gives_the_spectrogram(compression: str, power: int) -> None:
    options = {**vars(SMALL), "compression": compression, "power": power, "shift": 1.0}
    mel = MelConfig(**{**options, "scale": 0.5})
    wave = noise(2, 2000)
    level, _ = MelSpectrogram(mel)(wave)
    energy, _ = MelSpectrogram(mel).energies(wave)
    gaps = {}
    for method in ("nonnegative", "pseudo-inverse"):
        inverse = InverseMel(method=method, iterations=200, mel=mel)
        found = inverse(level)
        assert found.shape == (2, 32, 129)
        assert found.min() >= 0
        again = found.double() @ mel.filters.analytic_weights()
        gaps[method] = float((again - energy).norm() / energy.norm())
        size = found if power == 1 else found.sqrt()
        assert torch.equal(inverse.magnitude(level), size)
    assert gaps["nonnegative"] < 0.01
    assert gaps["nonnegative"] <= gaps["pseudo-inverse"] + 1e-6


def test_the_pseudo_inverse_is_numpys() -> None:
    weights = SMALL.filters.analytic_weights()
    energy = torch.rand(7, 20, generator=torch.Generator().manual_seed(0)).double()
    inverse = InverseMel(
        method="pseudo-inverse", mel=MelConfig(**{**vars(SMALL), "compression": "none"})
    )
    exact = torch.from_numpy(
        __import__("numpy").linalg.lstsq(weights.T.numpy(), energy.T.numpy(), rcond=None)[0].T
    ).clamp_min(0)
    assert (inverse.double()(energy) - exact).abs().max() < 1e-9 * exact.max()


def test_gradients() -> None:
    mel = MelConfig(sample_rate=1000, n_fft=16, hop_length=8, n_mels=4, low_hz=100.0)
    for method in ("nonnegative", "pseudo-inverse"):
        inverse = InverseMel(method=method, iterations=3, mel=mel).double()
        level = noise(3, 4).double().requires_grad_()
        assert torch.autograd.gradcheck(inverse, level)


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="method"):
        InverseMelConfig(method="exact")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="iterations"):
        InverseMelConfig(iterations=0)
    with pytest.raises(UserError, match="trainable_filters"):
        InverseMelConfig(mel=MelConfig(trainable_filters="edges"))
