"""Everything stays on the device that it is given, shown on the device without memory."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from sonoformer.spectral.deltas import deltas
from sonoformer.spectral.griffin_lim import GriffinLim
from sonoformer.spectral.inverse_mel import InverseMel
from sonoformer.spectral.istft import Istft
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.mfcc import Mfcc
from sonoformer.spectral.scaled_stft import ScaledStft
from sonoformer.spectral.stft import Stft

META = torch.device("meta")


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which does not know this device.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


@pytest.mark.parametrize(
    "module",
    [
        Stft(),
        Stft(n_fft=256, backend="gemm", pad_mode="zeros"),
        Stft(n_fft=256, backend="sym", center=False),
        Stft(trainable="window"),
        MelSpectrogram(top_db=80.0),
        MelSpectrogram(trainable_filters="edges", kind="bark-zwicker"),
        MelSpectrogram(trainable_filters="edges", kind="gammatone"),
        Mfcc(),
        ScaledStft(n_fft=256),
    ],
    ids=lambda module: type(module).__name__,
)
def test_spectra(module: nn.Module) -> None:
    lengths = torch.tensor([5000, 100], device=META)
    found, frames = module.to(META)(torch.zeros(2, 5000, device=META), lengths)
    assert found.device == frames.device == META


@pytest.mark.parametrize("module", [Stft(), MelSpectrogram(), Stft(center=False)])
def test_streams(module: Stft) -> None:
    state = module.to(META).stream_state((2,))
    out, state = module.stream(torch.zeros(2, 5000, device=META), state)
    assert out.device == module.flush(state).device == state.tail.device == META


def test_inverses() -> None:
    stft = Stft().to(META)
    lengths = torch.tensor([5000, 100], device=META)
    re, im, frames = stft.planes(torch.zeros(2, 5000, device=META), lengths)
    for wave, ends in (
        stft.inverse(re, im, lengths, 5000),
        Istft(backend="gemm").to(META)(re, im, lengths, 5000),
        GriffinLim(iterations=2).to(META)(re, lengths, 5000),
    ):
        assert wave.device == ends.device == META
    assert InverseMel().to(META)(torch.zeros(4, 128, device=META)).device == META
    assert deltas(re, frames).device == META
