"""Phases found for magnitudes: closer with every step, the same in any batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.griffin_lim import GriffinLim, GriffinLimConfig
from sonoformer.spectral.stft import Stft, StftConfig

SMALL = StftConfig(n_fft=256, hop_length=64)


def sound(*shape: int) -> Tensor:
    time = torch.arange(shape[-1]) / 8000
    tone = sum((2 * math.pi * hertz * time * (1 + time)).sin() for hertz in (300, 450, 1210))
    clicks = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return 0.1 * tone + 0.01 * clicks


def distance(wave: Tensor, magnitude: Tensor) -> float:
    found, _ = Stft(SMALL).magnitude(wave)
    return float((found - magnitude).norm() / magnitude.norm())


def test_every_step_comes_closer_and_momentum_helps() -> None:
    magnitude, _ = Stft(SMALL).magnitude(sound(8000))
    gaps = [
        distance(
            GriffinLim(iterations=n, momentum=m, stft=SMALL)(magnitude, length=8000)[0], magnitude
        )
        for n, m in ((0, 0.0), (8, 0.0), (40, 0.0), (40, 0.99))
    ]
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert gaps[3] < 0.1


def test_is_the_algorithm_as_published() -> None:
    magnitude = torch.rand(20, 129, generator=torch.Generator().manual_seed(0)).double()
    found, _ = GriffinLim(iterations=5, seed=3, stft=SMALL).double()(magnitude)
    window = torch.hann_window(256, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    turns = torch.rand(20 * 129, generator=generator, dtype=torch.float64).reshape(20, 129)
    phases, before = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).T, 0
    for _ in range(5):
        wave = torch.istft(magnitude.T * phases, 256, 64, window=window)
        spectrum = torch.stft(wave, 256, 64, window=window, return_complex=True)
        phases = spectrum - 0.99 / 1.99 * before
        phases, before = phases / phases.abs(), spectrum
    exact = torch.istft(magnitude.T * phases, 256, 64, window=window)
    assert (found - exact).abs().max() < 1e-8


def test_a_clip_sounds_the_same_in_a_padded_batch() -> None:
    waves, lengths = sound(3, 4000), torch.tensor([4000, 2500, 700])
    magnitude, frames = Stft(SMALL).magnitude(waves, lengths)
    lim = GriffinLim(iterations=6, stft=SMALL)
    found, ends = lim(magnitude, lengths, 4000)
    assert torch.equal(ends, lengths)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, _ = lim(magnitude[row, :count], length=length)
        assert (found[row, :length] - alone).abs().max() < 1e-3 * alone.abs().max()
        assert (found[row, length:] == 0).all()


def test_the_seed_decides() -> None:
    magnitude, _ = Stft(SMALL).magnitude(sound(2000))
    first, second, other = (
        GriffinLim(iterations=2, seed=seed, stft=SMALL)(magnitude)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.allclose(first, other, atol=1e-3)


def test_silence_stays_silent_and_gradients_flow() -> None:
    lim = GriffinLim(iterations=3, stft=SMALL)
    assert (lim(torch.zeros(2, 5, 129))[0] == 0).all()
    magnitude = torch.rand(5, 129, requires_grad=True)
    lim(magnitude)[0].square().sum().backward()
    assert magnitude.grad is not None
    assert magnitude.grad.isfinite().all()
    assert magnitude.grad.abs().max() > 0


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="iterations"):
        GriffinLimConfig(iterations=-1)
    with pytest.raises(UserError, match="momentum"):
        GriffinLimConfig(momentum=-0.1)
    with pytest.raises(UserError, match="trainable"):
        GriffinLimConfig(stft=StftConfig(trainable="window"))
    with pytest.raises(UserError, match="hop_length"):
        GriffinLim(stft=StftConfig(n_fft=64, hop_length=64))
