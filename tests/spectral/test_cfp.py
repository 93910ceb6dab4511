"""Combined frequency and periodicity: the authors' steps, pitches, lengths, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.cfp import Cfp, CfpConfig, power_of

SMALL: dict[str, Any] = {
    "sample_rate": 4000,
    "hop_length": 100,
    "window_length": 513,
    "resolution_hz": 4.0,
    "high_hz": 600.0,
    "bins_per_octave": 24,
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(hertz: float, samples: int, sample_rate: int, harmonics: int = 8) -> Tensor:
    turn = 2 * torch.pi * hertz * torch.arange(samples) / sample_rate
    return torch.stack([(k * turn).sin() / k for k in range(1, harmonics + 1)]).sum(0)


def transcribed(wave: np.ndarray, config: CfpConfig) -> np.ndarray:
    """The authors' steps with both halves of every spectrum, a pitch and a bin at a time."""
    n, rate = config.n_fft, config.sample_rate
    shape = np.arange(config.window_length) * 2 * np.pi / (config.window_length - 1)
    window = 0.35875 - 0.48829 * np.cos(shape)
    window += 0.14128 * np.cos(2 * shape) - 0.01168 * np.cos(3 * shape)
    left = (n - config.window_length) // 2
    frame = np.zeros(n)
    frame[left : left + config.window_length] = window / np.linalg.norm(window)
    padded = np.pad(wave, n // 2)
    starts = range(0, len(wave) + 1, config.hop_length)
    value = np.stack([np.abs(np.fft.fft(padded[s : s + n] * frame)) for s in starts])
    layers = [value ** config.powers[0]]
    for layer, power in enumerate(config.powers[1:], 1):
        cut = round(rate / config.high_hz) if layer % 2 else round(80 / config.resolution_hz)
        value = np.maximum(np.fft.fft(layers[-1]).real / np.sqrt(n), 0)
        value[:, :cut] = 0
        value[:, -cut:] = 0
        layers.append(value**power)
    spectrum, cepstrum = (
        layers[len(layers) - 1 - (len(layers) - 1) % 2],
        layers[-1 - len(layers) % 2],
    )
    pitch = [80 * 2 ** (i / config.bins_per_octave) for i in range(200)]
    pitch = [hertz for hertz in pitch if hertz < config.high_hz]
    out = np.zeros((len(value), len(pitch) - 1))
    for i in range(1, len(pitch) - 1):
        low, mid, high = pitch[i - 1 : i + 2]

        def weight(hertz: float, low: float = low, mid: float = mid, high: float = high) -> float:
            return max(0.0, min((hertz - low) / (mid - low), (high - hertz) / (high - mid)))

        first, last = round(low / config.resolution_hz), round(high / config.resolution_hz)
        if first >= last:
            of_bins = spectrum[:, first]
        else:
            bins = range(first, last + 1)
            of_bins = sum(weight(j * config.resolution_hz) * spectrum[:, j] for j in bins)
        lags = range(round(rate / high), round(rate / low) + 1)
        out[:, i] = of_bins * sum(weight(rate / j) * cepstrum[:, j] for j in lags)
    return out


@pytest.mark.parametrize("powers", [(0.24, 0.6, 1.0), (0.3, 0.5), (0.24, 0.6, 1.0, 0.7)])
def test_the_authors_steps(powers: tuple[float, ...]) -> None:
    cfp = Cfp(**SMALL, powers=powers).double()
    wave = (tone(150, 3000, 4000) + 0.1 * noise(3000)).double()
    found, frames = cfp(wave)
    wanted = transcribed(wave.numpy(), cfp.config)
    assert frames.item() == len(wanted)
    assert np.abs(found.numpy() - wanted).max() < 1e-9 * wanted.max()


@pytest.mark.parametrize("hertz", [110.0, 220.0, 330.0, 587.0])
def test_a_tone_has_its_pitch_and_no_octaves(hertz: float) -> None:
    cfp = Cfp()
    found, _ = cfp(tone(hertz, 16000, 16000))
    loudest = int(found[25].argmax())
    assert cfp.config.pitches[loudest] == pytest.approx(hertz, rel=2 ** (1 / 48) - 1)


def test_float32_is_near_float64() -> None:
    wave = noise(2, 3000)
    single, double = Cfp(**SMALL)(wave)[0], Cfp(**SMALL).double()(wave.double())[0]
    assert (single - double).abs().max() < 1e-4 * double.max()


def test_padding_a_batch_changes_nothing() -> None:
    cfp, counts = Cfp(**SMALL), [2500, 900, 30]
    clips = [noise(n, seed=n) for n in counts]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    found, frames = cfp(batch, torch.tensor(counts))
    assert bool(found.isfinite().all())
    for clip, row, count in zip(clips, found, frames.tolist(), strict=True):
        alone, own = cfp(clip)
        assert own.item() == count
        assert (row[:count] - alone).abs().max() < 1e-5 * alone.abs().max()


def test_parts_multiply_to_the_salience() -> None:
    parts, frames = Cfp(**SMALL).parts(noise(2, 3, 1000))
    assert parts.salience.shape == (2, 3, 11, len(CfpConfig(**SMALL).pitches) - 1)
    assert torch.equal(parts.salience, parts.spectrum * parts.cepstrum)
    assert frames.shape == (2, 3)


def test_gradients() -> None:
    cfp = Cfp(**{**SMALL, "resolution_hz": 40.0, "window_length": 65, "bins_per_octave": 6})
    cfp = cfp.double()
    wave = noise(1, 150).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cfp(x)[0], wave, fast_mode=True)
    silence = torch.zeros(500, requires_grad=True)
    Cfp(**SMALL)(silence)[0].sum().backward()
    assert silence.grad is not None
    assert not silence.grad.any()


def test_the_power_0_is_the_logarithm() -> None:
    assert power_of(torch.tensor([1.0]), 0) == pytest.approx(0, abs=1e-6)
    assert bool(Cfp(**SMALL, powers=(0.0, 0.6))(torch.zeros(500))[0].isfinite().all())


@pytest.mark.slow
def test_compiles_whole() -> None:
    cfp, wave = Cfp(**SMALL), noise(2, 1000)
    compiled = torch.compile(cfp, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(wave)[0], cfp(wave)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"resolution_hz": 100.0}, "window_length"),
        ({"sample_rate": 16002}, "even"),
        ({"powers": (0.2,)}, "powers"),
        ({"low_hz": 2000.0}, "low_hz"),
        ({"high_hz": 9000.0}, "high_hz"),
        ({"low_hz": 1.0}, "low_hz"),
        ({"grid": "fine"}, "grid"),
    ],
)
def test_refuses(options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        Cfp(**options)
