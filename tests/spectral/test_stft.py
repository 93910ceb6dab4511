"""The short-time Fourier transform: its definition in float64, and all ways of computing it."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.stft import Stft, StftConfig

SMALL = StftConfig(n_fft=64, hop_length=16)
BACKENDS = ["auto", "fft", "gemm", "sym"]


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def defined(wave: np.ndarray, config: StftConfig) -> np.ndarray:
    """`(frames, bins)` by the definition, in float64: a sum over every sample of every frame."""
    n, half = config.n_fft, config.n_fft // 2
    length = config.win_length or n
    window = np.zeros(n)
    left = (n - length) // 2
    window[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    if config.center:
        mode = {"reflect": "reflect", "zeros": "constant", "replicate": "edge"}[config.pad_mode]
        if len(wave) == 1 and mode == "reflect":
            mode = "edge"
        wave = np.pad(wave, half, mode=mode)
    else:
        wave = np.pad(wave, (0, max(0, n - len(wave))))
    turn = -2j * np.pi * (np.outer(np.arange(n), np.arange(half + 1)) % n) / n
    starts = range(0, len(wave) - n + 1, config.hop_length)
    return np.stack([(wave[s : s + n] * window) @ np.exp(turn) for s in starts])


def gap(found: Tensor, exact: np.ndarray) -> float:
    """Largest difference in units of the largest value."""
    return float(np.abs(found.detach().numpy() - exact).max() / np.abs(exact).max())


# The definition -----------------------------------------------------------------------------------

CONFIGS = [
    StftConfig(n_fft=512, hop_length=128),
    StftConfig(n_fft=512, hop_length=100, win_length=300),
    StftConfig(n_fft=400, hop_length=160, center=False),
    StftConfig(n_fft=64, hop_length=80, pad_mode="zeros"),
    StftConfig(n_fft=128, hop_length=32, win_length=64, pad_mode="replicate"),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_is_the_definition(config: StftConfig, backend: str) -> None:
    stft = Stft(StftConfig(**{**vars(config), "backend": backend}))
    wave = noise(2000)
    exact = defined(wave.double().numpy(), config)
    spectrum, frames = stft(wave)
    assert frames.item() == len(exact) == stft.framing.frames(2000)
    assert spectrum.dtype == torch.complex64
    assert gap(spectrum, exact) < 1e-6
    assert gap(stft.magnitude(wave)[0], np.abs(exact)) < 1e-6
    assert gap(stft.power(wave)[0], np.abs(exact) ** 2) < 2e-6
    turned = torch.polar(torch.ones(exact.shape), stft.phase(wave)[0]).numpy() * np.abs(exact)
    assert np.abs(turned - exact).max() < 2e-6 * np.abs(exact).max()


def test_float64_stays_float64() -> None:
    wave = noise(2000).double()
    spectrum, _ = Stft(SMALL).double()(wave)
    assert spectrum.dtype == torch.complex128
    assert gap(spectrum, defined(wave.numpy(), SMALL)) < 1e-13


def test_long_clips_are_several_blocks() -> None:
    wave = noise(2, 64 * 3000)
    stft = Stft(StftConfig(n_fft=64, hop_length=32))
    blocked, _ = stft.magnitude(wave)
    plain, _ = stft.magnitude(wave.requires_grad_())
    assert plain.requires_grad
    assert torch.allclose(blocked, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_agrees_with_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    wave = noise(3, 30000)
    exact = librosa.stft(wave.double().numpy(), pad_mode="reflect").transpose(0, 2, 1)
    assert gap(Stft()(wave)[0], exact) < 1e-6


# Lengths and shapes -------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    center=st.booleans(),
    pad_mode=st.sampled_from(["reflect", "zeros", "replicate"]),
    backend=st.sampled_from(BACKENDS),
    win_length=st.sampled_from([None, 40]),
)
def test_padding_a_batch_changes_nothing(
    lengths: list[int], center: bool, pad_mode: str, backend: str, win_length: int | None
) -> None:
    stft = Stft(
        n_fft=64,
        hop_length=24,
        win_length=win_length,
        center=center,
        pad_mode=pad_mode,
        backend=backend,
    )
    # What lies behind a clip's end is loud, and must not be heard.
    wave = noise(len(lengths), max(lengths) + 100, level=10.0)
    power, frames = stft.power(wave, torch.tensor(lengths))
    assert power.isfinite().all()
    for row, (length, count) in enumerate(zip(lengths, frames.tolist(), strict=True)):
        exact = defined(wave[row, :length].double().numpy(), stft.config)
        assert count == len(exact) == stft.framing.frames(length)
        alone, _ = stft.power(wave[row, :length])
        assert torch.allclose(power[row, :count], alone, rtol=1e-5, atol=1e-4)
        worst = np.abs(alone.numpy() - np.abs(exact) ** 2).max()
        assert worst <= 1e-5 * (np.abs(exact) ** 2).max()


@pytest.mark.parametrize("shape", [(500,), (2, 500), (2, 3, 500), (2, 0)])
def test_any_batch_shape(shape: tuple[int, ...]) -> None:
    stft, wave = Stft(SMALL), noise(*shape)
    for found, frames in (stft(wave), stft.magnitude(wave), stft.power(wave.requires_grad_())):
        assert found.shape == (*shape[:-1], stft.framing.frames(shape[-1]), 33)
        assert frames.shape == shape[:-1]
        assert frames.dtype == torch.long


def test_inputs_that_are_no_sound_are_refused() -> None:
    stft = Stft(SMALL)
    with pytest.raises(ValueError, match="real numbers"):
        stft(torch.zeros(100, dtype=torch.int16))
    with pytest.raises(ValueError, match="real numbers"):
        stft(torch.tensor(1.0))
    with pytest.raises(ValueError, match="lengths should be"):
        stft(noise(2, 100), torch.tensor([100]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 63}, "n_fft: must be even"),
        ({"n_fft": 0}, "n_fft: must be a whole number"),
        ({"n_fft": 64.0}, "n_fft: must be a whole number"),
        ({"hop_length": 0}, "hop_length"),
        ({"n_fft": 64, "win_length": 65}, "win_length: 65 samples do not fit"),
        ({"window": "hanning"}, "window: must be one of"),
        ({"pad_mode": "constant"}, "pad_mode: must be one of"),
        ({"backend": "conv"}, "backend: must be one of"),
        ({"trainable": "all"}, "trainable: must be one of"),
        ({"trainable": "kernels", "backend": "fft"}, "backend: learnt kernels"),
        ({"trainable": "window", "backend": "sym"}, "backend: a learnt window"),
        ({"n_fft": 64, "win_length": 41, "backend": "sym"}, "backend: sym needs"),
        ({"hop_lenght": 64}, "hop_lenght: no option.*hop_length"),
        ({"config": SMALL, "n_fft": 64}, "not both"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Stft(**options)


# Number formats, memory, threads ------------------------------------------------------------------


def test_is_float32_under_autocast_and_after_half() -> None:
    wave = noise(2, 1000)
    for backend in BACKENDS:
        stft = Stft(n_fft=64, hop_length=16, backend=backend)
        plain, _ = stft.magnitude(wave)
        halved = copy.deepcopy(stft).half()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(stft.magnitude(wave)[0], plain)
        assert torch.equal(halved.magnitude(wave)[0], plain)
        assert torch.equal(halved.magnitude(wave.requires_grad_())[0].detach(), plain) or (
            backend == "auto"
        )
        wave = wave.detach()


def test_holds_nothing_that_a_checkpoint_should() -> None:
    assert not Stft(SMALL).state_dict()
    assert list(Stft(n_fft=64, trainable="window").state_dict()) == ["window"]
    assert list(Stft(n_fft=64, trainable="kernels").state_dict()) == ["kernels"]


def test_memory_used_again_never_shows() -> None:
    stft, wave = Stft(SMALL), noise(3, 700)
    first, _ = stft.magnitude(wave)
    kept = first.clone()
    with torch.inference_mode():
        inside = stft.magnitude(2 * wave)[0].clone()
    stft.magnitude(noise(1, 90, seed=1))
    stft.power(noise(2, 90, seed=2))
    assert torch.equal(first, kept)
    assert torch.allclose(inside, 2 * kept)
    assert torch.equal(stft.magnitude(wave)[0], kept)
    assert torch.equal(pickle.loads(pickle.dumps(stft)).magnitude(wave)[0], kept)


def test_threads_do_not_share_memory() -> None:
    stft = Stft(SMALL)
    waves = [noise(2, 200 + 50 * seed, seed=seed) for seed in range(8)]
    alone = [stft.power(wave)[0] for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda wave: stft.power(wave)[0], waves)
            assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


# Gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_to_the_sound(backend: str) -> None:
    pad_mode = "replicate" if backend == "fft" else "reflect"
    stft = Stft(n_fft=8, hop_length=3, backend=backend, pad_mode=pad_mode).double()
    wave = noise(2, 10).double().requires_grad_()
    lengths = torch.tensor([10, 7])

    def of(wave: Tensor) -> Tensor:
        re, im, _ = stft.planes(wave, lengths)
        return re + 2 * im

    assert torch.autograd.gradcheck(of, wave)
    assert torch.autograd.gradcheck(lambda w: stft.magnitude(w, lengths)[0], wave)
    assert torch.autograd.gradcheck(lambda w: stft.power(w)[0], wave)


@pytest.mark.parametrize("what", ["window", "kernels"])
def test_gradients_to_what_is_learnt(what: str) -> None:
    stft = Stft(n_fft=8, hop_length=4, trainable=what).double()
    wave = noise(1, 9).double()
    learnt = getattr(stft, what)
    assert isinstance(learnt, torch.nn.Parameter)
    assert gap(Stft(n_fft=8, hop_length=4).double()(wave)[0], stft(wave)[0].detach().numpy()) < 1e-6

    def of(values: Tensor) -> Tensor:
        return torch.func.functional_call(Measured(stft), {f"stft.{what}": values}, (wave,))

    assert torch.autograd.gradcheck(of, learnt.detach().requires_grad_())
    start = learnt.detach().clone()
    with torch.no_grad():
        learnt.add_(0.5)
    stft.reset_to_analytic()
    assert torch.allclose(learnt, start, atol=1e-7)


class Measured(torch.nn.Module):
    def __init__(self, stft: Stft) -> None:
        super().__init__()
        self.stft = stft

    def forward(self, wave: Tensor) -> Tensor:
        return self.stft.power(wave)[0]


def test_gradients_of_silence_are_zero() -> None:
    stft, wave = Stft(SMALL), torch.zeros(200, requires_grad=True)
    for found in (stft.magnitude(wave)[0], stft.phase(wave)[0]):
        (grad,) = torch.autograd.grad(found.sum(), wave)
        assert (grad == 0).all()
    tiny = torch.full((200,), 1e-30, requires_grad=True)
    (grad,) = torch.autograd.grad(stft.magnitude(tiny)[0].sum(), tiny)
    assert grad.isfinite().all()


# Compilers ----------------------------------------------------------------------------------------


def test_compiles_without_a_break() -> None:
    stft = Stft(SMALL)
    wave, lengths = noise(2, 500), torch.tensor([500, 210])
    compiled = torch.compile(stft.power, fullgraph=True, backend="eager")
    found, frames = compiled(wave, lengths)
    exact, counts = stft.power(wave, lengths)
    assert torch.equal(frames, counts)
    for row, count in enumerate(counts.tolist()):
        assert torch.allclose(found[row, :count], exact[row, :count], rtol=1e-4, atol=1e-6)
