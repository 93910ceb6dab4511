"""Spectra at chosen frequencies against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.scaled_stft import ScaledStft, ScaledStftConfig
from sonoformer.spectral.stft import Stft

SMALL = ScaledStftConfig(
    sample_rate=8000, n_fft=256, hop_length=64, n_bins=24, low_hz=100.0, high_hz=3000.0
)


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", ["log", "linear", "htk"])
def test_is_the_definition(scale: str) -> None:
    stft = ScaledStft(**{**vars(SMALL), "scale": scale, "center": False})
    wave = noise(1000)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    turn = np.exp(-2j * np.pi * np.outer(np.arange(256), stft.config.hertz().numpy()) / 8000)
    starts = range(0, 1000 - 255, 64)
    exact = np.stack([(wave[s : s + 256].double().numpy() * window) @ turn for s in starts])
    found, frames = stft(wave)
    assert frames.item() == len(exact)
    assert np.abs(found.numpy() - exact).max() < 1e-6 * np.abs(exact).max()
    assert np.abs(stft.magnitude(wave)[0].numpy() - np.abs(exact)).max() < 1e-5
    assert np.abs(stft.power(wave)[0].numpy() - np.abs(exact) ** 2).max() < 1e-5
    turned = torch.polar(stft.magnitude(wave)[0], stft.phase(wave)[0]).numpy()
    assert np.abs(turned - exact).max() < 1e-5


def test_frequencies() -> None:
    hertz = SMALL.hertz()
    assert hertz[0].item() == pytest.approx(100.0)
    assert torch.allclose(hertz[1:] / hertz[:-1], torch.tensor(30.0).double() ** (1 / 24))
    whole = ScaledStft(
        sample_rate=256,
        n_fft=256,
        hop_length=64,
        n_bins=128,
        scale="linear",
        low_hz=0.0,
        high_hz=128.0,
    )
    wave = noise(2, 700)
    lengths = torch.tensor([700, 100])
    exact, counts = Stft(n_fft=256, hop_length=64).magnitude(wave, lengths)
    found, frames = whole.magnitude(wave, lengths)
    assert torch.equal(counts, frames)
    for row, count in enumerate(frames.tolist()):
        gap = found[row, :count] - exact[row, :count, :-1]
        assert gap.abs().max() < 1e-5


def test_learnt_kernels() -> None:
    stft = ScaledStft(**{**vars(SMALL), "trainable": True})
    wave = noise(2, 3, 700)
    first = stft.power(wave)[0]
    assert first.shape == (2, 3, 11, 24)
    assert torch.allclose(first, ScaledStft(SMALL).power(wave)[0])
    first.sum().backward()
    assert list(stft.state_dict()) == ["kernels"]
    assert stft.kernels.grad is not None
    with torch.no_grad():
        stft.kernels.mul_(2)
    stft.reset_to_analytic()
    assert torch.equal(stft.power(wave)[0], first)
    assert not ScaledStft(SMALL).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high_hz": 50.0}, "low_hz, high_hz"),
        ({"high_hz": 5000.0}, "low_hz, high_hz"),
        ({"low_hz": 0.0}, "low_hz: a logarithmic"),
        ({"n_bins": 0}, "n_bins"),
        ({"scale": "log2"}, "scale: must be one of"),
        ({"n_fft": 5}, "n_fft: must be even"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ScaledStft(**{**vars(SMALL), **options})
