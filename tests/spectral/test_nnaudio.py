"""nnAudio's names: equal to nnAudio 0.3.4 where it is installed, to transcribed rules where not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from tests.spectral.direct_cqt import direct
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral import nnaudio

RATE = 22050


def sound(samples: int = 16000) -> Tensor:
    """A tone with harmonics, and noise: `(2, samples)`."""
    turn = 2 * torch.pi * 220 * torch.arange(samples) / RATE
    tone = torch.stack([(k * turn).sin() / k for k in range(1, 8)]).sum(0)
    return torch.stack([tone, torch.randn(samples, generator=torch.Generator().manual_seed(0))])


def gap(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


# Transcribed rules --------------------------------------------------------------------------------


def test_stft_is_the_fourier_transform_of_frames() -> None:
    wave = sound(4000)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(wave.double().numpy(), ((0, 0), (256, 256)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512, 1)[:, ::128]
    exact = torch.from_numpy(np.fft.rfft(frames * hann)).transpose(1, 2)
    stft = nnaudio.STFT(n_fft=512)
    assert stft.bins2freq[1] == RATE / 512
    assert gap(torch.view_as_complex(stft(wave).contiguous()), exact.to(torch.complex64)) < 1e-5
    assert gap(stft(wave, "Magnitude"), exact.abs().float()) < 1e-5
    loud = exact.abs() > 1
    turned = torch.polar(torch.ones(()), stft(wave, "Phase") - exact.angle().float())
    assert (turned[loud] - 1).abs().max() < 1e-3


def test_stft_on_other_scales_is_the_inner_product() -> None:
    wave = sound(3000).double()
    stft = nnaudio.STFT(n_fft=512, freq_scale="log", fmin=60, fmax=5000, freq_bins=30).double()
    hertz = 60 * (5000 / 60) ** (np.arange(30) / 30)
    assert stft.bins2freq == pytest.approx(hertz.tolist())
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    waves = np.exp(-2j * np.pi * np.outer(hertz, np.arange(512)) / RATE) * hann
    middle = wave[0].numpy()[3 * 128 - 256 :][:512]
    found = torch.view_as_complex(stft(wave)[0].contiguous())
    assert np.abs(found[:, 3].numpy() - waves @ middle).max() < 1e-9


@pytest.mark.parametrize("onesided", [True, False])
def test_inverse_gives_the_sound_again(onesided: bool) -> None:
    wave, stft = sound(4000), nnaudio.STFT(n_fft=512, iSTFT=True)
    spectrum = stft(wave)
    if not onesided:
        mirrored = spectrum[:, 1:-1].flip(1) * torch.tensor([1.0, -1.0])
        spectrum = torch.cat([spectrum, mirrored], 1)
    for inverse in (stft.inverse, nnaudio.iSTFT(n_fft=512)):
        assert gap(inverse(spectrum, onesided=onesided, length=4000), wave) < 1e-5
    assert stft.inverse(spectrum, onesided=onesided).shape == (2, 31 * 128)


@pytest.mark.parametrize("name", ["CQT", "CQT1992", "CQT1992v2", "CQT2010", "CQT2010v2", "VQT"])
def test_every_cqt_is_the_exact_one(name: str) -> None:
    cqt = getattr(nnaudio, name)(sr=8000, hop_length=128, fmin=220.0, n_bins=36)
    wave = sound(6000)
    exact = torch.stack([direct(row, cqt.config) for row in wave]).transpose(1, 2)
    lengths = torch.tensor(cqt.config.lengths).sqrt().unsqueeze(1)
    for kind, scale in (("convolutional", 1), ("wrap", 2), ("librosa", lengths)):
        wanted = (exact * scale).to(torch.complex64)
        assert gap(cqt(wave, normalization_type=kind), wanted.abs()) < 1e-4
        found = cqt(wave, "Complex", kind)
        assert gap(torch.view_as_complex(found.contiguous()), wanted) < 1e-4
    turned = torch.view_as_complex(cqt(wave, "Phase").contiguous())
    loud = exact.abs() > 1e-3
    assert ((turned * exact.conj() / exact.abs() - 1).abs()[loud]).max() < 0.05
    assert cqt.frequencies[12] == pytest.approx(440)


def test_mel_mfcc_and_gammatone_follow_from_the_stft() -> None:
    wave = sound(6000)
    power = nnaudio.STFT(hop_length=512, output_format="Magnitude")(wave) ** 2
    for mel in (nnaudio.MelSpectrogram(n_mels=40), nnaudio.Gammatonegram(n_bins=40)):
        weights = mel.filtered.bank.weights().T
        assert gap(mel(wave), weights @ power * mel.unit) < 1e-5
    energy = nnaudio.MelSpectrogram(n_mels=40)(wave)
    level = 10 * energy.clamp_min(1e-10).log10()
    level = torch.maximum(level, level.amax((1, 2), keepdim=True) - 80)
    turn = torch.pi / 40 * (torch.arange(40) + 0.5)
    cosines = torch.stack([(k * turn).cos() for k in range(20)]) * (2 / 40) ** 0.5
    cosines[0] /= 2**0.5
    assert gap(nnaudio.MFCC(n_mels=40)(wave), cosines @ level) < 1e-5


def test_a_power_between() -> None:
    wave = sound(3000)
    mel = nnaudio.MelSpectrogram(power=1.5, n_mels=20)
    magnitude = nnaudio.STFT(hop_length=512, output_format="Magnitude")(wave)
    assert gap(mel(wave), mel.filtered.bank.weights().T @ magnitude**1.5) < 1e-5


def test_griffin_lim_finds_a_sound_with_these_magnitudes() -> None:
    stft = nnaudio.STFT(n_fft=512, output_format="Magnitude")
    magnitude = stft(sound(4000)[:1])
    wave = nnaudio.Griffin_Lim(512, n_iter=60)(magnitude)
    again = stft(wave)
    assert float((again - magnitude).norm() / magnitude.norm()) < 0.2


def test_trained_parameters_are_all_that_is_saved() -> None:
    wave = sound(3000)
    modules: dict[str, torch.nn.Module] = {
        "fixed": nnaudio.CQT(sr=8000, fmin=220.0, n_bins=24),
        "CQT": nnaudio.CQT(sr=8000, fmin=220.0, n_bins=24, trainable=True),
        "CQT1992": nnaudio.CQT1992(sr=8000, n_bins=24, trainable_CQT=True),
        "STFT": nnaudio.STFT(n_fft=256, trainable=True, output_format="Magnitude"),
        "log": nnaudio.STFT(n_fft=256, freq_scale="log", trainable=True),
        "mel": nnaudio.MelSpectrogram(n_fft=256, n_mels=10, trainable_mel=True),
        "gammatone": nnaudio.Gammatonegram(n_fft=256, n_bins=10, trainable_bins=True),
        "MFCC": nnaudio.MFCC(n_fft=256, n_mels=20, trainable_STFT=True),
    }
    for name, module in modules.items():
        assert bool(module.state_dict()) == (name != "fixed")
        if name == "fixed":
            continue
        module(wave).square().mean().backward()
        for parameter in module.parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("shape", [(3000,), (2, 3000), (2, 1, 3000)])
def test_input_shapes(shape: tuple[int, ...]) -> None:
    wave = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    for module in (nnaudio.STFT(n_fft=512), nnaudio.CQT(sr=8000, fmin=220.0, n_bins=24)):
        assert module(wave, "Magnitude").shape[0] == (shape[0] if len(shape) > 1 else 1)
    assert nnaudio.MelSpectrogram()(wave).ndim == 3


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    nnaudio.CQT2010v2(sr=8000, fmin=220.0, n_bins=24)
    nnaudio.STFT(n_fft=512)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("STFT", {"output_format": "magnitude"}, "output_format"),
        ("STFT", {"pad_mode": "edge"}, "pad_mode"),
        ("STFT", {"freq_scale": "mel"}, "freq_scale"),
        ("STFT", {"window": "hanning"}, "window"),
        ("iSTFT", {"freq_scale": "log"}, "freq_scale"),
        ("CQT", {"fmin": 5000.0}, "half the sample rate"),
        ("CQT", {"window": ("kaiser", 3.0)}, "window"),
        ("MFCC", {"norm": "none"}, "norm"),
        ("MFCC", {"n_mfcc": 200}, "n_mfcc"),
        ("MFCC", {"amin": 0.0}, "amin"),
    ],
)
def test_refuses(name: str, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        getattr(nnaudio, name)(**options)


def test_refuses_calls() -> None:
    with pytest.raises(UserError, match="iSTFT"):
        nnaudio.STFT(n_fft=512).inverse(torch.zeros(1, 257, 5, 2))
    linear = nnaudio.STFT(n_fft=512, iSTFT=True, freq_scale="linear")
    with pytest.raises(UserError, match="freq_scale"):
        linear.inverse(torch.zeros(1, 257, 5, 2))
    with pytest.raises(UserError, match="normalization_type"):
        nnaudio.CQT(sr=8000, fmin=220.0, n_bins=24)(sound(), normalization_type="l2")
    with pytest.raises(ValueError, match="samples"):
        nnaudio.STFT()(torch.zeros(2, 2, 100))


# nnAudio itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Any:
    pytest.importorskip("nnAudio")
    signal = pytest.importorskip("scipy.signal")
    # Where nnAudio 0.3.4 looks for it, and scipy has not had it since 1.13.
    if not hasattr(signal, "blackmanharris"):
        signal.blackmanharris = signal.windows.blackmanharris
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnAudio import features
    return features


CASES: list[tuple[str, dict[str, Any], float]] = [
    ("STFT", {}, 1e-5),
    ("STFT", {"n_fft": 512, "win_length": 400, "window": "hamming", "center": False}, 1e-5),
    ("STFT", {"n_fft": 512, "pad_mode": "constant", "freq_bins": 100}, 1e-5),
    ("STFT", {"n_fft": 512, "freq_scale": "linear"}, 1e-5),
    ("STFT", {"n_fft": 512, "freq_scale": "log2", "freq_bins": 100}, 1e-5),
    ("MelSpectrogram", {}, 1e-5),
    ("MelSpectrogram", {"htk": True, "norm": None, "fmin": 50.0, "n_mels": 40}, 1e-5),
    ("MelSpectrogram", {"power": 1.0}, 1e-5),
    ("MFCC", {}, 1e-4),
    ("MFCC", {"n_mfcc": 13, "top_db": 40.0, "ref": 2.0}, 1e-4),
    ("Gammatonegram", {}, 1e-5),
    ("Gammatonegram", {"n_bins": 40, "fmin": 60.0, "fmax": 6000.0}, 1e-5),
    ("CQT1992v2", {"fmin": 110.0, "n_bins": 48}, 1e-4),
    ("CQT1992v2", {"fmin": 220.0, "fmax": 2000.0, "bins_per_octave": 24}, 1e-4),
    ("CQT1992v2", {"fmin": 110.0, "n_bins": 48, "window": ("gaussian", 50)}, 1e-4),
    ("CQT1992v2", {"fmin": 110.0, "n_bins": 48, "norm": 2, "filter_scale": 0.7}, 1e-4),
    ("CQT", {"fmin": 110.0, "n_bins": 48, "center": False, "pad_mode": "constant"}, 1e-4),
    ("CQT1992", {"fmin": 220.0, "n_bins": 36}, 1e-4),
]


@pytest.mark.parametrize(("name", "options", "bound"), CASES)
def test_equals_nnaudio(theirs: Any, name: str, options: dict[str, Any], bound: float) -> None:
    quiet = {} if name == "CQT1992" else {"verbose": False}
    other, own = getattr(theirs, name)(**options, **quiet), getattr(nnaudio, name)(**options)
    wave = sound()
    assert gap(own(wave), other(wave)) < bound
    if "CQT" in name:
        assert gap(own(wave, "Complex"), other(wave, "Complex")) < bound
        assert gap(own(wave, None, "wrap"), other(wave, None, "wrap")) < bound


def test_inverses_equal_nnaudios(theirs: Any) -> None:
    other = theirs.STFT(n_fft=512, iSTFT=True, verbose=False)
    spectrum = other(sound(4000))
    own = nnaudio.STFT(n_fft=512, iSTFT=True)
    for options in ({}, {"length": 3900}):
        assert gap(own.inverse(spectrum, **options), other.inverse(spectrum, **options)) < 1e-5
        one = nnaudio.iSTFT(n_fft=512)(spectrum, onesided=True, **options)
        two = theirs.iSTFT(n_fft=512, verbose=False)(spectrum, onesided=True, **options)
        assert gap(one, two) < 1e-5


def test_phases_equal_nnaudios(theirs: Any) -> None:
    wave = sound()
    options = {"fmin": 220.0, "n_bins": 36}
    own = nnaudio.CQT1992v2(**options)
    loud = own(wave, "Magnitude") > 0.1
    for name, sign in (("CQT1992v2", 1.0), ("CQT1992", -1.0)):
        other = getattr(theirs, name)(**options)(wave, "Phase") * torch.tensor([1.0, sign])
        assert (own(wave, "Phase") - other)[loud].abs().max() < 0.01


@pytest.mark.parametrize("name", ["CQT2010", "CQT2010v2", "VQT"])
def test_octave_wise_transforms_differ_as_documented(theirs: Any, name: str) -> None:
    wave, options = sound(), {"fmin": 110.0, "n_bins": 48}
    own = getattr(nnaudio, name)(**options)(wave)
    plain = getattr(theirs, name)(**options, earlydownsample=False, verbose=False)(wave)
    early = getattr(theirs, name)(**options, verbose=False)(wave)
    assert 0.01 < gap(own, plain) < 0.15
    assert gap(own, early) > 0.25


def test_cfp_equals_nnaudios(theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.stft

    def pairs(*args: Any, return_complex: bool = True, **options: Any) -> Tensor:
        found = plain(*args, return_complex=True, **options)
        return found if return_complex else torch.view_as_real(found)

    monkeypatch.setattr(torch, "stft", pairs)
    wave = sound(16000)[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = theirs.CFP()(wave)
        parts = theirs.Combined_Frequency_Periodicity()(wave)
    # Small values to the power 0.24: float32 rounding of either is large.
    assert gap(nnaudio.CFP()(wave), wanted) < 2e-3
    for found, part in zip(nnaudio.Combined_Frequency_Periodicity()(wave), parts, strict=True):
        assert gap(found, part) < 2e-3
