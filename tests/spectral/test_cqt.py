"""Constant-Q transforms: the inner products, all ways of computing them, padding, gradients."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixture_rules import note
from tests.spectral.direct_cqt import direct, sounds
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral import cqt_response
from sonoformer.spectral.cqt import Cqt, Vqt
from sonoformer.spectral.cqt_config import CqtConfig, erb_gamma
from sonoformer.spectral.cqt_response import Blocks, responses

SMALL = CqtConfig(sample_rate=8000, hop_length=64, fmin=220.0, n_bins=36, bins_per_octave=12)
TINY = CqtConfig(sample_rate=800, hop_length=16, fmin=60.0, n_bins=9, bins_per_octave=6)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def changed(config: CqtConfig, **options: object) -> Cqt:
    return Cqt(replace(config, **options))


def planes(cqt: Cqt, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
    re, im, _ = cqt.planes(wave, lengths)
    return torch.complex(re, im).detach()


# The inner products -------------------------------------------------------------------------------

CONFIGS = [
    SMALL,
    CqtConfig(sample_rate=8000, hop_length=100, fmin=110.0, n_bins=60, bins_per_octave=24),
    CqtConfig(sample_rate=8000, hop_length=37, fmin=300.0, n_bins=30, filter_scale=0.5),
    CqtConfig(sample_rate=8000, hop_length=256, fmin=220.0, n_bins=49, gamma=25.0),
    CqtConfig(sample_rate=8000, hop_length=512, fmin=1000.0, n_bins=24, scale="convolutional"),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("sound", ["noise", "tones", "clicks", "sweep"])
def test_every_form_is_the_inner_product_in_float64(config: CqtConfig, sound: str) -> None:
    wave = sounds(12000, 8000)[sound]
    exact = direct(wave, config)
    peak = exact.abs().max()
    forms = {
        "reused memory": planes(Cqt(config), wave),
        "differentiable": planes(Cqt(config), wave.clone().requires_grad_()),
        "float64": planes(Cqt(config), wave.double()),
        "convolution": planes(changed(config, backend="gemm"), wave),
    }
    for name, found in forms.items():
        gap = ((found - exact).abs().max() / peak).item()
        note(f"CQT, {name}", gap)
        assert found.shape == exact.shape
        assert gap < (2e-5 if name == "convolution" else 1e-4), name


def test_without_a_cut_float64_is_exact() -> None:
    wave = noise(3000).double()
    assert (
        planes(changed(SMALL, response_cut=0.0), wave) - direct(wave, SMALL)
    ).abs().max() < 1e-11


def test_the_papers_shape() -> None:
    config = CqtConfig(sample_rate=44100, fmin=220.0, bins_per_octave=24)
    wave = sounds(40000, 44100)["clicks"]
    exact = direct(wave, config)
    gap = (planes(Cqt(config), wave) - exact).abs().max() / exact.abs().max()
    assert gap < 1e-4


def test_a_tone_reads_its_amplitude() -> None:
    time = torch.arange(16000) / 8000
    wave = 0.7 * torch.sin(2 * torch.pi * 440 * time)
    found, _ = changed(SMALL, scale="wrap")(wave)
    assert found[125, 12] == pytest.approx(0.7, abs=1e-3)
    assert found[125].argmax() == 12


def test_outputs_say_the_same() -> None:
    wave = noise(3000)
    re, im, frames = Cqt(SMALL).planes(wave)
    found = {
        name: changed(SMALL, output=name)(wave)
        for name in ("magnitude", "power", "complex", "phase")
    }
    assert all(torch.equal(count, frames) for _, count in found.values())
    assert torch.equal(found["complex"][0], torch.complex(re, im))
    assert torch.allclose(found["power"][0], re.square() + im.square(), rtol=1e-5)
    assert torch.allclose(found["magnitude"][0], torch.hypot(re, im), rtol=1e-5)
    assert torch.equal(found["phase"][0], torch.atan2(im, re))


def test_vqt_widens_low_bins_by_the_ears_bandwidth() -> None:
    assert Vqt(n_bins=12).config.gamma == erb_gamma(12)
    assert Vqt(n_bins=12, gamma=3.0).config.gamma == 3
    assert Vqt(SMALL).config == SMALL
    shortened = [a / b for a, b in zip(Vqt().config.lengths, CqtConfig().lengths, strict=True)]
    assert all(b > a - 0.01 for a, b in itertools.pairwise(shortened))
    assert shortened[0] < 0.6
    assert erb_gamma(12) == pytest.approx(24.7 * (2 ** (1 / 12) - 1) / 0.108)


# Shapes, lengths, blocks --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fast", "grad", "gemm"])
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 2500), min_size=1, max_size=4),
    mode=st.sampled_from(["reflect", "zeros", "replicate"]),
    center=st.booleans(),
)
def test_padding_a_batch_changes_nothing(
    form: str, lengths: list[int], mode: str, center: bool
) -> None:
    backend = "gemm" if form == "gemm" else "auto"
    cqt = changed(TINY, pad_mode=mode, center=center, backend=backend)
    clips = [noise(n, seed=n) for n in lengths]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    batch.requires_grad_(form == "grad")
    found, frames = cqt(batch, torch.tensor(lengths))
    assert bool(found.isfinite().all())
    for clip, row, count in zip(clips, found.detach(), frames.tolist(), strict=True):
        alone, own = cqt(clip)
        assert own.item() == count == cqt.frames(len(clip))
        assert (row[:count] - alone).abs().max() < 3e-5 * max(1.0, alone.abs().max().item())


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 3000), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linear(samples: int, a: float, b: float) -> None:
    cqt = Cqt(TINY)
    x, y = noise(samples, seed=1), noise(samples, seed=2)
    gap = planes(cqt, a * x + b * y) - (a * planes(cqt, x) + b * planes(cqt, y))
    assert gap.abs().max() < 2e-5


@settings(max_examples=15, deadline=None)
@given(shift=st.integers(1, 20))
def test_a_shift_by_hops_moves_frames(shift: int) -> None:
    cqt, wave = Cqt(TINY), noise(3000)
    edge = -(-TINY.reach // TINY.hop_length)
    whole, later = planes(cqt, wave), planes(cqt, wave[shift * TINY.hop_length :])
    gap = whole[shift + edge : -edge - 1] - later[edge : len(whole) - shift - edge - 1]
    assert gap.abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(2000,), (1, 2000), (2, 3, 2000), (0, 2000), (2, 0)])
def test_any_batch_shape(shape: tuple[int, ...]) -> None:
    cqt, wave = Cqt(TINY), noise(*shape)
    found, frames = cqt(wave)
    count = 1 + shape[-1] // TINY.hop_length
    assert found.shape == (*shape[:-1], count, TINY.n_bins)
    assert frames.shape == shape[:-1]
    assert bool((frames == count).all())
    if wave.ndim == 3:
        assert (cqt(wave[1, 2])[0] - found[1, 2]).abs().max() < 1e-5


@pytest.mark.parametrize("samples", [100_000, 400_000])
def test_long_clips_are_cut_into_blocks_of_one_size(samples: int) -> None:
    blocks = Blocks.of(TINY.hop_length, TINY.reach, TINY.frames(samples))
    assert blocks.count > 1
    assert blocks.size <= 2**17
    wave = noise(samples)
    found = planes(Cqt(TINY), wave)
    middle = samples // 2 // TINY.hop_length
    part = wave[middle * TINY.hop_length - 4000 : middle * TINY.hop_length + 4000]
    alone = planes(Cqt(TINY), part)[150:350]
    assert (found[middle - 100 : middle + 100] - alone).abs().max() < 1e-4


@settings(max_examples=200, deadline=None)
@given(hop=st.integers(1, 3000), reach=st.integers(1, 50_000), frames=st.integers(1, 20_000))
def test_blocks_cover_all_frames(hop: int, reach: int, frames: int) -> None:
    blocks = Blocks.of(hop, reach, frames)
    assert blocks.count * blocks.frames >= frames
    assert (blocks.count - 1) * blocks.frames < frames
    assert blocks.span <= blocks.size == blocks.fold * hop
    assert blocks.span == (blocks.frames - 1) * hop + 2 * reach + 1
    assert blocks.fold % 2 == 0


def test_tables_are_shared_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert responses(TINY, 8) is responses(replace(TINY), 8)
    kept: OrderedDict = OrderedDict()
    monkeypatch.setattr(cqt_response, "_cache", kept)
    monkeypatch.setattr(cqt_response, "_KEPT", 3 * responses(TINY, 8).bytes)
    for fold in (8, 10, 8, 12, 14):
        responses(TINY, fold)
    assert sum(tables.bytes for tables in kept.values()) <= cqt_response._KEPT
    assert [key[1] for key in kept][-1] == 14
    monkeypatch.setattr(cqt_response, "_KEPT", 1)
    responses(TINY, 16)
    assert [key[1] for key in kept] == [16]


def test_threads_do_not_share_memory() -> None:
    cqt = Cqt(SMALL)
    clips = [noise(3, 3000 + 100 * k, seed=k) for k in range(12)]
    wanted = [cqt(clip)[0] for clip in clips]
    barrier = threading.Barrier(4)

    def work(first: int) -> list[Tensor]:
        barrier.wait()
        return [cqt(clip)[0] for clip in clips[first::4]]

    with ThreadPoolExecutor(4) as pool:
        for first, found in enumerate(pool.map(work, range(4))):
            for one, other in zip(found, wanted[first::4], strict=True):
                assert torch.equal(one, other)


def test_blocked_reads_nothing_from_the_call_before() -> None:
    cqt = Cqt(TINY)
    wave = noise(2, 2000)
    first = cqt(wave)[0].clone()
    cqt(1e6 * noise(5, 2000))
    assert torch.equal(cqt(wave)[0], first)


# Precision, modules -------------------------------------------------------------------------------


def test_precision_is_kept() -> None:
    wave = noise(2, 2000)
    cqt = Cqt(TINY)
    single = cqt(wave)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cqt(wave)[0], single)
    for form in ("auto", "gemm"):
        half = changed(TINY, backend=form).half()
        assert (half(wave.half())[0] - cqt(wave.half().float())[0]).abs().max() < 1e-4
        double = changed(TINY, backend=form).double()
        found = double(wave.double())[0]
        assert found.dtype == torch.float64
        assert (found - single).abs().max() < 1e-4


def test_copies_and_pickles_hold_no_tables() -> None:
    cqt = Cqt(SMALL)
    cqt(noise(8000))
    assert not cqt.state_dict()
    for other in (copy.deepcopy(cqt), pickle.loads(pickle.dumps(cqt))):
        assert torch.equal(other(noise(900))[0], cqt(noise(900))[0])


def test_inference_mode_and_back() -> None:
    wave = noise(1000)
    with torch.inference_mode():
        first = Cqt(TINY)(wave)[0]
    assert torch.equal(Cqt(TINY)(wave)[0], first)
    tracked = wave.clone().requires_grad_()
    Cqt(TINY)(tracked)[0].sum().backward()
    assert tracked.grad is not None


@pytest.mark.parametrize("output", ["magnitude", "power", "complex"])
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
def test_gradients(output: str, pad_mode: str) -> None:
    cqt = changed(TINY, output=output, pad_mode=pad_mode, n_bins=3)
    wave = noise(2, 90).double().requires_grad_()
    lengths = torch.tensor([90, 61])
    assert torch.autograd.gradcheck(lambda x: cqt(x, lengths)[0][:, :4], wave, fast_mode=True)


def test_the_magnitude_of_silence_has_no_gradient() -> None:
    wave = torch.zeros(500, requires_grad=True)
    found, _ = Cqt(TINY)(wave)
    found.sum().backward()
    assert wave.grad is not None
    assert not wave.grad.any()
    assert not found.any()


def test_compiles_whole() -> None:
    cqt, wave = Cqt(TINY), noise(2, 1000)
    compiled = torch.compile(cqt, backend="eager", fullgraph=True)
    lengths = torch.tensor([1000, 600])
    assert (compiled(wave, lengths)[0][0] - cqt(wave, lengths)[0][0]).abs().max() < 2e-6


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"n_bins": 120}, "half the sample rate"),
        ({"fmin": 0.0}, "fmin"),
        ({"fmin": float("nan")}, "fmin"),
        ({"fmin": 1e-3}, "samples long"),
        ({"n_bins": 0}, "n_bins"),
        ({"hop_length": 0}, "hop_length"),
        ({"bins_per_octave": 0}, "bins_per_octave"),
        ({"gamma": -1.0}, "gamma"),
        ({"window": "hanning"}, "window"),
        ({"scale": "l2"}, "scale"),
        ({"kernel_norm": 3}, "kernel_norm"),
        ({"output": "db"}, "output"),
        ({"response_cut": 0.5}, "response_cut"),
        ({"trainable": True, "backend": "fft"}, "backend"),
        ({"bins": 3}, "bins"),
    ],
)
def test_refuses(options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        Cqt(**options)


def test_refuses_waves_that_are_none() -> None:
    with pytest.raises(ValueError, match="wave"):
        Cqt(TINY)(torch.zeros(100, dtype=torch.int64))
    with pytest.raises(ValueError, match="lengths"):
        Cqt(TINY)(torch.zeros(2, 100), torch.tensor([100]))
