"""LEAF: the formulas, tones, padding, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.leaf import Leaf, LeafConfig

SMALL = LeafConfig(sample_rate=2000, n_filters=6, window_ms=20, hop_ms=8, low_hz=60, high_hz=900)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transcribed(leaf: Leaf, wave: np.ndarray) -> np.ndarray:
    """Energies by the formulas, a filter and a frame at a time, in float64."""
    config = leaf.config
    taps, hop = config.window_length, config.hop_length
    time = np.arange(taps) - taps // 2
    rows = []
    for center, width, low in zip(
        *(p.detach().double().numpy() for p in (leaf.center, leaf.width, leaf.lowpass)), strict=True
    ):
        gabor = np.exp(1j * center * time - time**2 / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
        # Correlation, as convolutional layers have it; the modulus is the same.
        power = np.abs(np.convolve(wave, gabor[::-1], "full")[taps // 2 :][: len(wave)]) ** 2
        lowpass = np.exp(-0.5 * (time / (low * (taps - 1) / 2)) ** 2)
        padded = np.pad(power, ((taps - hop) // 2, taps + hop))
        starts = range(0, len(wave), hop)
        rows.append([max(1e-5, padded[s : s + taps] @ lowpass) for s in starts])
    return np.array(rows).T


@pytest.mark.parametrize("samples", [7, 16, 400, 1001])
def test_is_the_formulas(samples: int) -> None:
    leaf, wave = Leaf(SMALL), noise(samples)
    energy, frames = leaf.energies(wave)
    exact = transcribed(leaf, wave.double().numpy())
    assert energy.shape == exact.shape == (math.ceil(samples / 16), 6)
    assert frames.item() == len(exact)
    assert np.abs(energy.detach().numpy() - exact).max() < 1e-5 * exact.max()


def test_a_tone_lands_in_its_filter() -> None:
    leaf = Leaf()
    hertz = leaf.center.detach() * 16000 / (2 * math.pi)
    time = torch.arange(16000) / 16000
    tones = torch.sin(2 * math.pi * hertz[[5, 20, 35]].unsqueeze(1) * time)
    energy, _ = leaf.energies(tones)
    assert energy.mean(1).argmax(1).tolist() == [5, 20, 35]


def test_padding_changes_nothing_and_any_batch_shape() -> None:
    leaf = Leaf(SMALL)
    wave = noise(2, 3, 500)
    lengths = torch.tensor([[500, 333, 90], [1, 499, 17]])
    spec, frames = leaf(wave, lengths)
    assert spec.shape == (2, 3, 32, 6)
    for place in np.ndindex(2, 3):
        alone, _ = leaf(wave[place][: lengths[place]])
        count = int(frames[place])
        assert len(alone) == count
        assert torch.allclose(spec[place][:count], alone, atol=1e-5)


def test_gradients_and_reset() -> None:
    leaf = Leaf(SMALL).double()
    wave = noise(60).double().requires_grad_()
    names = [name for name, _ in leaf.named_parameters()]

    def run(wave: Tensor, *values: Tensor) -> Tensor:
        whole = dict(zip(names, values, strict=True))
        return torch.func.functional_call(leaf, whole, wave)[0]

    assert torch.autograd.gradcheck(run, (wave, *leaf.parameters()), atol=1e-4)
    leaf.reset_to_analytic()
    before = leaf(wave)[0].detach()
    with torch.no_grad():
        for value in leaf.parameters():
            value.mul_(1.1)
    assert (leaf(wave)[0] - before).abs().max() > 1e-3
    leaf.reset_to_analytic()
    assert torch.equal(leaf(wave)[0], before)


def test_filters_stay_within_what_the_window_holds() -> None:
    leaf = Leaf(SMALL)
    with torch.no_grad():
        leaf.center.copy_(torch.linspace(-1, 5, 6))
        leaf.width.copy_(torch.linspace(-3, 900, 6))
        leaf.lowpass.copy_(torch.linspace(-1, 3, 6))
    assert torch.isfinite(leaf(noise(400))[0]).all()


def test_compiles_whole() -> None:
    leaf, wave = Leaf(SMALL), noise(2, 300)
    compiled = torch.compile(leaf, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(wave)[0], leaf(wave)[0], atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [{"n_filters": 0}, {"low_hz": 0.0}, {"high_hz": 9000.0}, {"hop_ms": 0.0}, {"smooth": 1.0}],
)
def test_bad_options(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        LeafConfig(**bad)
