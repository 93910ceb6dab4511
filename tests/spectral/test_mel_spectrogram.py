"""Filtered spectrograms against their definition in float64, levels, and padded batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.mel_spectrogram import MelConfig, MelSpectrogram

SMALL = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=20, kind="htk")


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def defined(wave: np.ndarray, config: MelConfig) -> np.ndarray:
    """Energies `(frames, n_mels)` in float64, a frame at a time."""
    n = config.n_fft
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    if config.center:
        wave = np.pad(wave, n // 2, mode="reflect" if len(wave) > 1 else "edge")
    else:
        wave = np.pad(wave, (0, max(0, n - len(wave))))
    starts = range(0, len(wave) - n + 1, config.hop_length)
    size = np.stack([np.abs(np.fft.rfft(wave[s : s + n] * window)) for s in starts])
    return size**config.power @ config.filters.analytic_weights().numpy()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", ["slaney", "kaldi", "gammatone", "log"])
@pytest.mark.parametrize("way", ["blocked", "differentiable", "gemm"])
def test_is_the_definition(power: int, kind: str, way: str) -> None:
    options = {
        "kind": kind,
        "power": power,
        "low_hz": 50.0,
        "n_fft": 512,
        "n_mels": 40,
        "compression": "none",
        "backend": "gemm" if way == "gemm" else "auto",
    }
    mel, wave = MelSpectrogram(**options), noise(9000)
    exact = defined(wave.double().numpy(), mel.config)
    found, frames = mel(wave.requires_grad_(way == "differentiable"))
    assert frames.item() == len(exact) == mel.config.frames(9000)
    assert np.abs(found.detach().numpy() - exact).max() < 2e-6 * exact.max()
    heard = exact > 1e-3 * exact.max()
    assert np.abs(found.detach().numpy() / np.where(heard, exact, 1) - 1)[heard].max() < 1e-5


@pytest.mark.slow
def test_agrees_with_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    wave = noise(40000)
    for htk in (False, True):
        options = {"y": wave.double().numpy(), "sr": 44100, "htk": htk, "pad_mode": "reflect"}
        exact = librosa.feature.melspectrogram(**options).T
        kind = "htk" if htk else "slaney"
        mel = MelSpectrogram(sample_rate=44100, kind=kind, compression="db", top_db=80.0)
        assert np.abs(mel.energies(wave)[0].numpy() - exact).max() < 1e-5 * exact.max()
        assert np.abs(mel(wave)[0].numpy() - librosa.power_to_db(exact)).max() < 1e-3


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 1500), min_size=1, max_size=4),
    center=st.booleans(),
    grad=st.booleans(),
    last_frame=st.booleans(),
    compression=st.sampled_from(["db", "log", "log10"]),
)
def test_padding_a_batch_changes_nothing(
    lengths: list[int], center: bool, grad: bool, last_frame: bool, compression: str
) -> None:
    mel = MelSpectrogram(
        sample_rate=8000,
        n_fft=256,
        hop_length=64,
        n_mels=20,
        center=center,
        last_frame=last_frame,
        compression=compression,
        top_db=60.0,
    )
    # What lies behind a clip's end is loud, and must not set its loudest value.
    wave = noise(len(lengths), max(lengths) + 300, level=10.0).requires_grad_(grad)
    level, frames = mel(wave, torch.tensor(lengths))
    assert level.isfinite().all()
    for row, (length, count) in enumerate(zip(lengths, frames.tolist(), strict=True)):
        alone, one = mel(wave[row, :length])
        assert one.item() == count == mel.config.frames(length)
        assert torch.allclose(level[row, :count], alone, atol=1e-3)


def test_levels() -> None:
    wave = noise(2, 3000)
    energy, _ = MelSpectrogram(**{**vars(SMALL), "compression": "none"})(wave)

    def level(**options: object) -> Tensor:
        return MelSpectrogram(**{**vars(SMALL), **options})(wave)[0]

    near = {"atol": 1e-5, "rtol": 1e-5}
    assert torch.allclose(level(), energy.log(), **near)
    assert torch.allclose(level(floor=1e-2), energy.clamp_min(1e-2).log(), **near)
    assert torch.allclose(level(compression="log10"), energy.log10(), **near)
    assert torch.allclose(level(compression="db"), 10 * energy.log10(), **near)
    assert torch.allclose(level(compression="root"), energy.pow(1 / 3), **near)
    assert torch.allclose(level(shift=-4.0, scale=0.25), (energy.log() + 4) / 4, **near)
    for power in (1, 2):
        for kind in ("db", "log10", "log"):
            free, held = (level(compression=kind, top_db=top, power=power) for top in (None, 6.0))
            decibel = {"db": 1.0, "log10": 0.05 * power, "log": 0.05 * power * np.log(10)}[kind]
            limit = free.amax((1, 2), keepdim=True) - 6 * decibel
            assert torch.allclose(held, torch.maximum(free, limit), **near)
            assert (held > free).any()


def test_any_batch_shape_and_number_format() -> None:
    mel, wave = MelSpectrogram(SMALL), noise(2, 3, 1000)
    level, frames = mel(wave, torch.tensor([[1000, 900, 800], [1, 2, 3]]))
    assert level.shape == (2, 3, 16, 20)
    assert frames.tolist() == [[16, 15, 13], [1, 1, 1]]
    plain, _ = mel(wave)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mel(wave)[0], plain)
    assert torch.equal(MelSpectrogram(SMALL).half()(wave)[0], plain)
    exact = np.log(defined(wave[0, 0].double().numpy(), SMALL))
    found = MelSpectrogram(SMALL).double()(wave[0, 0].double())[0]
    assert np.abs(found.numpy() - exact).max() < 1e-10
    assert MelSpectrogram(SMALL)(torch.zeros(2, 0))[0].shape == (2, 1, 20)


@pytest.mark.parametrize("compression", ["log", "root"])
@pytest.mark.parametrize("power", [1, 2])
def test_gradients_to_the_sound(compression: str, power: int) -> None:
    mel = MelSpectrogram(
        sample_rate=1000,
        n_fft=16,
        hop_length=8,
        n_mels=3,
        low_hz=100.0,
        compression=compression,
        power=power,
    ).double()
    wave = noise(1, 40).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: mel(w)[0], wave)
    silence = torch.zeros(1, 40, requires_grad=True)
    (grad,) = torch.autograd.grad(mel(silence)[0].sum(), silence)
    assert (grad == 0).all()


def test_what_is_learnt_lowers_a_loss_and_can_be_reset() -> None:
    options = {**vars(SMALL), "trainable_filters": "edges", "trainable_stft": "window"}
    mel, wave = MelSpectrogram(**options), noise(4, 1000)
    first = mel(wave)[0].detach()
    assert torch.allclose(first, MelSpectrogram(SMALL)(wave)[0], atol=1e-4)
    target = MelSpectrogram(**{**vars(SMALL), "kind": "linear"})(wave)[0]
    optimiser = torch.optim.Adam(mel.parameters(), 0.1)
    losses = []
    for _ in range(30):
        loss = (mel(wave)[0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert sorted(mel.state_dict()) == ["bank.steps", "stft.window"]
    mel.reset_to_analytic()
    assert torch.allclose(mel(wave)[0], first, atol=1e-4)


@pytest.mark.slow
def test_compiles_without_a_break() -> None:
    mel, wave = MelSpectrogram(SMALL), noise(2, 1000)
    lengths = torch.tensor([1000, 300])
    compiled = torch.compile(mel, fullgraph=True, backend="eager")
    found, frames = compiled(wave, lengths)
    exact, _ = mel(wave, lengths)
    for row, count in enumerate(frames.tolist()):
        assert torch.allclose(found[row, :count], exact[row, :count], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": 3}, "power: must be 1 or 2"),
        ({"compression": "cube"}, "compression: must be one of"),
        ({"floor": 0.0}, "floor: must be above 0"),
        ({"scale": 0.0}, "scale: must be above 0"),
        ({"compression": "none", "top_db": 80.0}, "top_db: none has no decibels"),
        ({"top_db": -1.0}, "top_db: must be above 0"),
        ({"n_fft": 255}, "n_fft: must be even"),
        ({"low_hz": 9000.0}, "low_hz, high_hz"),
        ({"trainable_filters": "all"}, "trainable: must be one of"),
        ({"mels": 20}, "mels: no option"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MelSpectrogram(**{"sample_rate": 8000, **options})
