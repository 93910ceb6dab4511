"""Filter banks: published weights, bands, what is learnt, bad options."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.filterbank import FilterBank, FilterBankConfig
from sonoformer.spectral.mel import mel_filters

KINDS = ["slaney", "htk", "kaldi", "bark", "bark-zwicker", "erb", "gammatone", "linear", "log"]


def small(kind: str = "htk", **options: object) -> FilterBankConfig:
    options = {"sample_rate": 8000, "n_fft": 256, "n_filters": 12, "low_hz": 100.0, **options}
    return FilterBankConfig(kind=kind, **options)  # type: ignore[arg-type]


def triangle_by_triangle(config: FilterBankConfig) -> np.ndarray:
    """librosa's filters.mel, htk, a filter and a bin at a time."""
    top = config.high_hz or config.sample_rate / 2
    ends = [2595 * np.log10(1 + hertz / 700) for hertz in (config.low_hz, top)]
    edges = 700 * (10 ** (np.linspace(*ends, config.n_filters + 2) / 2595) - 1)
    weights = np.zeros((config.n_fft // 2 + 1, config.n_filters))
    for k in range(len(weights)):
        hertz = k * config.sample_rate / config.n_fft
        for m, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            peak = max(0.0, min((hertz - a) / (b - a), (c - hertz) / (c - b)))
            weights[k, m] = peak * 2 / (c - a)
    return weights


def test_mel_filters_are_librosas_formula() -> None:
    for config in (small(), small(low_hz=0.0, high_hz=3000.0, n_fft=400)):
        gap = np.abs(config.analytic_weights().numpy() - triangle_by_triangle(config))
        assert gap.max() < 1e-12


def test_kaldi_filters_are_those_of_the_filterbank() -> None:
    found = small("kaldi").analytic_weights()
    exact = mel_filters(8000, 256, 12, 100.0, 4000.0)
    assert torch.allclose(found[:-1], exact, rtol=0, atol=1e-12)
    assert (found[-1] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("norm", ["slaney", "none"])
def test_mel_filters_agree_with_librosa(htk: bool, norm: str) -> None:
    librosa = pytest.importorskip("librosa")
    options = {"sr": 44100, "n_fft": 2048, "n_mels": 128, "dtype": np.float64}
    exact = librosa.filters.mel(**options, htk=htk, norm=None if norm == "none" else norm).T
    config = FilterBankConfig(sample_rate=44100, kind="htk" if htk else "slaney", norm=norm)
    # librosa divides by a frequency step rounded to float32 in some versions.
    assert np.abs(config.analytic_weights().numpy() - exact).max() < 1e-6 * exact.max()


def test_gammatones_agree_with_ellis() -> None:
    pytest.importorskip("nnAudio")
    from nnAudio.librosa_functions import fft2gammatonemx

    exact, _ = fft2gammatonemx(sr=22050, n_fft=1024, n_bins=32, fmin=50.0, fmax=11025, maxlen=513)
    config = FilterBankConfig(n_fft=1024, n_filters=32, kind="gammatone", low_hz=50.0)
    assert np.abs(config.analytic_weights().numpy() - exact.T[:513]).max() < 1e-5


def test_gammatones_are_the_spectrum_of_their_impulse_response() -> None:
    config = small("gammatone", n_fft=4096)
    weights, centres = config.analytic_weights().numpy(), config.analytic_centres().numpy()
    time = np.arange(4096) / 8000
    for m in (0, 3, 6):
        width = 1.019 * (centres[m] / 9.26449 + 24.7)
        tone = time**3 * np.exp(-2 * np.pi * width * time) * np.cos(2 * np.pi * centres[m] * time)
        response = np.abs(np.fft.rfft(tone))
        near = weights[:, m] > 0.1
        gap = weights[near, m] - (response / response.max())[near]
        assert np.abs(gap).max() < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_bands_are_the_whole_product(kind: str) -> None:
    bank = FilterBank(small(kind))
    spectrum = torch.rand(2, 5, 129, generator=torch.Generator().manual_seed(0))
    exact = spectrum.double() @ bank.config.analytic_weights()
    assert torch.allclose(bank(spectrum).double(), exact, rtol=1e-5)
    assert not bank.state_dict()
    peaks = bank.weights().argmax(0)
    assert (peaks.diff() >= 0).all()
    centres = bank.config.analytic_centres()
    assert (peaks * 8000 / 256 - centres).abs().max() < 35


def test_norms() -> None:
    assert torch.allclose(small(norm="area").analytic_weights().sum(0), torch.ones(12).double())
    peak = small(norm="none", n_fft=65536).analytic_weights().amax(0)
    assert torch.allclose(peak, torch.ones(12).double(), atol=1e-2)
    area = small(n_fft=65536).analytic_weights().sum(0) * 8000 / 65536
    assert torch.allclose(area, torch.ones(12).double(), atol=1e-4)
    assert torch.equal(
        small("kaldi").analytic_weights(), small("kaldi", norm="none").analytic_weights()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trainable", ["edges", "weights"])
def test_what_is_learnt_begins_as_the_analytic_filters(kind: str, trainable: str) -> None:
    bank = FilterBank(small(kind, trainable=trainable))
    exact = small(kind).analytic_weights().float()
    assert torch.allclose(bank.weights(), exact, rtol=1e-5, atol=1e-6 * exact.max().item())
    spectrum = torch.rand(3, 129, generator=torch.Generator().manual_seed(0))
    bank(spectrum).log().sum().backward()
    for learnt in bank.parameters():
        assert learnt.grad is not None
        assert learnt.grad.isfinite().all()
        assert learnt.grad.abs().max() > 0
    with torch.no_grad():
        for learnt in bank.parameters():
            learnt.add_(torch.randn(learnt.shape, generator=torch.Generator().manual_seed(1)))
    assert not torch.allclose(bank.weights(), exact, rtol=1e-2)
    bank.reset_to_analytic()
    assert torch.allclose(bank.weights(), exact, rtol=1e-5, atol=1e-6 * exact.max().item())


@pytest.mark.parametrize("kind", ["htk", "kaldi", "gammatone", "bark-zwicker"])
def test_gradients_to_edges(kind: str) -> None:
    config = small(kind, n_filters=3, n_fft=32, trainable="edges")
    generator = torch.Generator().manual_seed(0)
    steps = 0.5 + torch.rand(3 + (kind != "gammatone"), generator=generator, dtype=torch.float64)
    widths = 0.5 + torch.rand(3, generator=generator, dtype=torch.float64)
    inputs = (steps.requires_grad_(), widths.requires_grad_())
    assert torch.autograd.gradcheck(config.weights, inputs)


@settings(max_examples=30)
@given(values=st.lists(st.floats(-20, 20), min_size=13, max_size=13))
def test_edges_keep_their_order_whatever_is_learnt(values: list[float]) -> None:
    bank = FilterBank(small(trainable="edges", norm="none"))
    with torch.no_grad():
        bank.steps.copy_(torch.tensor(values))
    weights: Tensor = bank.weights()
    assert weights.isfinite().all()
    assert weights.min() >= 0
    assert weights.max() <= 1
    centre = (weights * torch.arange(129).unsqueeze(1)).sum(0) / weights.sum(0)
    heard = centre[weights.sum(0) > 0]
    assert (heard.diff() > -0.5).all()


def test_float64_and_half() -> None:
    spectrum = torch.rand(5, 129, dtype=torch.float64)
    exact = spectrum @ small().analytic_weights()
    assert torch.allclose(FilterBank(small()).double()(spectrum), exact, rtol=1e-12)
    bank = FilterBank(small())
    plain = bank(spectrum.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bank.half()(spectrum.float()), plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "melodic"}, "kind: must be one of"),
        ({"norm": "l2"}, "norm: must be one of"),
        ({"n_filters": 0}, "n_filters"),
        ({"sample_rate": 0}, "sample_rate: must be above 0"),
        ({"low_hz": 5000.0}, "low_hz, high_hz"),
        ({"high_hz": 5000.0}, "low_hz, high_hz"),
        ({"kind": "log", "low_hz": 0.0}, "low_hz: a logarithmic scale"),
        ({"kind": "gammatone", "norm": "slaney"}, "norm: slaney is for triangles"),
        ({"n_filters": 60000, "n_fft": 4096}, "too many"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FilterBank(**{"sample_rate": 8000, "n_fft": 256, **options})
