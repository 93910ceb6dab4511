"""Waveforms from constant-Q transforms: how much comes back, gradients, lengths."""

from __future__ import annotations

import pytest
import torch
from tests.fixture_rules import note
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.cqt import Cqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.cqt_inverse import CqtInverse

CONFIG = CqtConfig(sample_rate=8000, hop_length=64, fmin=220.0, n_bins=72, bins_per_octave=24)
TINY = CqtConfig(sample_rate=800, hop_length=8, fmin=60.0, n_bins=12, bins_per_octave=6)


def inside(samples: int, config: CqtConfig, *, fade: int = 0) -> Tensor:
    """Noise between the bins, 5 % inside; it may fade in and out over `fade` samples."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(samples, generator=generator, dtype=torch.float64)
    hertz = torch.fft.rfftfreq(samples, 1 / config.sample_rate)
    band = (hertz > 1.05 * config.frequencies[0]) & (hertz < config.frequencies[-1] / 1.05)
    wave = torch.fft.irfft(torch.fft.rfft(wave) * band, n=samples)
    if fade:
        shape = torch.hann_window(2 * fade, dtype=torch.float64)
        wave[:fade] *= shape[:fade]
        wave[-fade:] *= shape[fade:]
    return wave.float()


def decibels(wave: Tensor, found: Tensor) -> float:
    error = (found - wave).double().square().sum()
    return float(10 * (wave.double().square().sum() / error).log10())


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 60),
        ({"scale": "convolutional", "kernel_norm": 2}, 60),
        ({"bins_per_octave": 12, "n_bins": 36, "hop_length": 24}, 60),
        ({"hop_length": 100}, 40),
    ],
)
def test_what_lies_in_the_band_comes_back(options: dict, least: float) -> None:
    config = CqtConfig(**{**vars(CONFIG), **options})
    inverse = CqtInverse(config)
    wave = inside(12000, config, fade=2 * config.reach)
    re, im, _ = Cqt(config).planes(wave)
    found, length = inverse(re, im, length=12000)
    note(f"inverse CQT in dB, hop {config.hop_length}", decibels(wave, found))
    assert decibels(wave, found) > least
    assert length.item() == 12000


def test_away_from_the_ends_nothing_need_fade() -> None:
    wave, edge = inside(16000, CONFIG), 2 * CONFIG.reach
    re, im, _ = Cqt(CONFIG).planes(wave)
    found, _ = CqtInverse(CONFIG)(re, im, length=16000)
    assert decibels(wave[edge:-edge], found[edge:-edge]) > 60
    assert decibels(wave, found) > 35


def test_is_the_least_squares_solution() -> None:
    """Of any planes, whether or not they are of a sound: the rest is orthogonal to every sound."""
    inverse = CqtInverse(TINY, iterations=2000)
    generator = torch.Generator().manual_seed(1)
    shape = (1 + 200 // 8, TINY.n_bins)
    re, im = (torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(2))
    found, _ = inverse(re, im, length=200)
    lengths = torch.tensor(TINY.lengths).sqrt()
    back = Cqt(TINY).planes(found)
    basis = Cqt(TINY).planes(torch.eye(200, dtype=torch.float64))
    rest = [(a - b) / lengths for a, b in zip(back, (re, im), strict=False)]
    turned = sum(
        torch.einsum("nfb,fb->n", part / lengths, one)
        for part, one in zip(basis, rest, strict=False)
    )
    assert isinstance(turned, Tensor)
    start = sum(
        torch.einsum("nfb,fb->n", part / lengths, one / lengths)
        for part, one in zip(basis, (re, im), strict=False)
    )
    assert isinstance(start, Tensor)
    assert turned.abs().max() < 2e-3 * start.abs().max()


@pytest.mark.parametrize("seconds", [3.0, 4.0])
def test_rounding_does_not_grow(seconds: float) -> None:
    """In fp32, at lengths and numbers of iterations where a recursion without the planes drifts."""
    config = CqtConfig(22050, 32, 80.0, 120, 24)
    time = torch.arange(round(seconds * 22050), dtype=torch.float64) / 22050
    pitch = 400 * 2 ** (1.5 * torch.sin(2 * torch.pi * 0.3 * time))
    fade = (torch.minimum(time, seconds - time) / 0.3).clamp(0, 1).square()
    wave = (0.3 * fade * torch.sin(2 * torch.pi * pitch.cumsum(0) / 22050)).float()
    re, im, _ = Cqt(config).planes(wave)
    found, _ = CqtInverse(config)(re, im, length=len(wave))
    note("inverse CQT in dB, long clip", decibels(wave, found))
    assert decibels(wave, found) > 80


def test_lengths_of_a_batch() -> None:
    inverse, counts = CqtInverse(TINY), [700, 450]
    clips = [inside(n, TINY, fade=100) for n in counts]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    lengths = torch.tensor(counts)
    re, im, _ = Cqt(TINY).planes(batch, lengths)
    found, ends = inverse(re, im, lengths, length=700)
    assert ends.tolist() == counts
    for clip, row in zip(clips, found, strict=True):
        one = Cqt(TINY).planes(clip)
        alone, _ = inverse(one[0], one[1], length=len(clip))
        assert (row[: len(clip)] - alone).abs().max() < 1e-3
        assert not row[len(clip) :].any()


def test_length_of_its_own_and_any_batch() -> None:
    re, im, _ = Cqt(TINY).planes(torch.zeros(2, 3, 160))
    found, lengths = CqtInverse(TINY)(re, im)
    assert found.shape == (2, 3, 160)
    assert lengths.shape == (2, 3)
    assert not found.any()


def test_gradient_is_that_of_the_dual_frame() -> None:
    """Along sounds in the band, for which conjugate gradients arrive."""
    inverse, cqt = CqtInverse(TINY, iterations=60), Cqt(TINY)
    one, two, other = (inside(n, TINY, fade=100)[:700].double() for n in (700, 701, 702))
    re, im, _ = cqt.planes(one)
    step_re, step_im, _ = cqt.planes(two)
    re.requires_grad_()
    im.requires_grad_()
    (inverse(re, im, length=700)[0] * other).sum().backward()
    assert re.grad is not None
    assert im.grad is not None
    along = (re.grad * step_re).sum() + (im.grad * step_im).sum()
    assert float(along) == pytest.approx(float((two * other).sum()), rel=1e-2)


def test_runs_in_inference_mode() -> None:
    wave = inside(700, TINY, fade=100)
    with torch.inference_mode():
        re, im, _ = Cqt(TINY).planes(wave)
        found, _ = CqtInverse(TINY)(re, im, length=700)
    assert decibels(wave, found) > 30


def test_refuses() -> None:
    with pytest.raises(UserError, match="hop_length"):
        CqtInverse(sample_rate=8000, hop_length=512, fmin=500.0, n_bins=24)
    with pytest.raises(UserError, match="trainable"):
        CqtInverse(hop_length=16, trainable=True)
    with pytest.raises(UserError, match="iterations"):
        CqtInverse(TINY, iterations=0)
    with pytest.raises(ValueError, match="frames"):
        CqtInverse(TINY)(torch.zeros(5, 12), torch.zeros(5, 12), length=400)
    assert CqtInverse(TINY).longest_hop == min(TINY.lengths) // 3
