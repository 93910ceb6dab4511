"""The filterbank: reference implementations, both ways of computing it, padding, gradients."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixture_rules import note
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral import PRESETS, FbankConfig, FrontEnd, KaldiFbank

FIXTURES = Path(__file__).parents[1] / "fixtures" / "fbank"
SMALL = FbankConfig(sample_rate=2000, n_mels=8, window_ms=16, hop_ms=6, mean=-6.0, std=3.0)
FLOOR = float(np.log(np.float32(1.1920929e-7)))


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fixture(name: str) -> dict[str, Tensor]:
    with np.load(FIXTURES / f"fbank_{name}.npz") as found:
        return {key: torch.from_numpy(found[key].copy()) for key in found}


# The reference implementations --------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mean_gap"), [("noise", 2e-5), ("mixed", 5e-5)])
@pytest.mark.parametrize("way", ["blocked", "differentiable"])
def test_agrees_with_torchaudio_in_float64(name: str, mean_gap: float, way: str) -> None:
    found = fixture(name)
    exact = found["torchaudio_float32"] + found["torchaudio_float64_minus_float32"]
    wave = found["waveform"].unsqueeze(0).requires_grad_(way == "differentiable")
    spec, frames = KaldiFbank()(wave)
    gap = (spec[0].detach() - exact).abs()
    note("log-mel 8 above the floor", gap[exact > FLOOR + 8].max().item())
    note("log-mel on average", gap.mean().item())
    assert frames.tolist() == [298]
    assert gap.max() < 5e-3
    assert gap[exact > FLOOR + 8].max() < 1e-3
    assert gap.mean() < mean_gap


def transcribed(wave: np.ndarray) -> np.ndarray:
    """Kaldi's steps in float64, a frame and a filter at a time."""
    mel = 1127 * np.log1p(np.arange(256) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 130)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    rows = []
    for start in range(0, len(wave) - 399, 160):
        frame = wave[start : start + 400] - wave[start : start + 400].mean()
        frame = np.append(0.03 * frame[0], frame[1:] - 0.97 * frame[:-1])
        power = np.abs(np.fft.rfft(frame * window, 512)[:256]) ** 2
        energy = [
            (power * np.clip(np.minimum((mel - a) / (b - a), (c - mel) / (c - b)), 0, None)).sum()
            for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        rows.append(np.log(np.maximum(energy, 1.1920929e-7)))
    return np.array(rows)


@pytest.mark.parametrize("name", ["noise", "mixed"])
def test_float64_waveforms_are_computed_in_float64(name: str) -> None:
    wave = fixture(name)["waveform"].double()[::3]
    spec, _ = KaldiFbank().double()(wave.unsqueeze(0))
    assert spec.dtype == torch.float64
    assert np.abs(spec[0].numpy() - transcribed(wave.numpy())).max() < 1e-9


@pytest.mark.parametrize("name", ["noise", "mixed"])
def test_agrees_with_kaldi_native_fbank(name: str) -> None:
    found = fixture(name)
    gap = (KaldiFbank()(found["waveform"].unsqueeze(0))[0][0] - found["kaldi_native"]).abs()
    assert gap.max() < 5e-3
    assert gap.mean() < 5e-5


@pytest.mark.parametrize("name", ["noise", "mixed"])
def test_front_end_agrees_with_the_transformers_extractor(name: str) -> None:
    found = fixture(name)
    front = FrontEnd(FbankConfig(padding="reference"))
    gap = (front(found["waveform"].unsqueeze(0))[0][0] - found["hf_numpy_normalised"]).abs()
    assert gap.max() < 5e-3 / (2 * front.config.std)
    assert front.pad_value == pytest.approx(found["hf_pad_value"].item(), abs=1e-6)


@pytest.mark.parametrize("name", ["noise", "mixed"])
@pytest.mark.parametrize(
    ("preset", "key", "total"),
    [
        ("audioset", "loader_audioset_t1024", 1024),
        ("audioset", "loader_audioset_t200", 200),
        ("esc50", "loader_esc50_t512", 512),
    ],
)
def test_reference_padding_is_the_authors_loader(
    name: str, preset: str, key: str, total: int
) -> None:
    found = fixture(name)
    config = FbankConfig(**PRESETS[preset], padding="reference", fixed_frames=total)
    front = FrontEnd(config)
    wave = found["waveform"].unsqueeze(0)
    spec, frames = front(wave, torch.tensor([wave.shape[1]]))
    rows = found[f"{key}_rows"].long()
    gap = (spec[0, rows] - found[key]).abs()
    note("normalised", gap.max().item())
    assert spec.shape[1] == total
    assert frames.item() == total
    assert torch.equal(spec, front(wave)[0])
    assert gap.max() < 5e-3 / (2 * front.config.std)
    assert gap.mean() < 1e-5


# Both ways of computing it ------------------------------------------------------------------------

CONFIGS = [
    FbankConfig(),
    FbankConfig(window="povey", n_mels=23),
    FbankConfig(window="hamming", preemphasis=0.5),
    FbankConfig(preemphasis=0.0, low_hz=0.0, high_hz=4000.0, log_floor=1e-10),
    FbankConfig(sample_rate=44100, n_mels=64, window_ms=20.0, hop_ms=7.3),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_blocked_and_differentiable_agree(config: FbankConfig) -> None:
    # An offset makes the removal of each frame's mean count.
    wave = noise(2, config.sample_rate // 2) + 0.05
    fbank = KaldiFbank(config)
    plain, _ = fbank(wave.clone().requires_grad_())
    blocked, _ = fbank(wave)
    assert plain.requires_grad
    assert not blocked.requires_grad
    # The rare cells near the floor are round-off alone.
    assert (plain - blocked).abs().max() < 5e-3
    assert (plain - blocked).abs().mean() < 2e-5


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 1100), batch=st.integers(1, 3))
def test_every_number_of_frames_fits_the_blocks(frames: int, batch: int) -> None:
    wave = noise(batch, SMALL.window_length + (frames - 1) * SMALL.hop_length + 3)
    fbank = KaldiFbank(SMALL)
    blocked, _ = fbank(wave)
    exact, _ = fbank(wave.double())
    assert blocked.shape == (batch, frames, SMALL.n_mels)
    assert (blocked - exact).abs().max() < 1e-3


def test_threads_and_filterbanks_share_no_memory() -> None:
    fbanks = [KaldiFbank(FbankConfig(n_mels=mels)) for mels in (40, 64, 128)]
    jobs = [(fbanks[i % 3], noise(1, 8000 + 100 * i, seed=i)) for i in range(24)]
    alone = [fbank(wave)[0] for fbank, wave in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: job[0](job[1])[0], jobs))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_earlier_results_are_not_overwritten() -> None:
    fbank = KaldiFbank()
    first = fbank(noise(1, 8000))[0]
    before = first.clone()
    fbank(noise(1, 8000, seed=1))
    assert torch.equal(first, before)


def test_inference_mode_and_no_grad_follow_each_other() -> None:
    fbank, wave = KaldiFbank(FbankConfig(n_mels=40)), noise(1, 4000)
    with torch.inference_mode():
        first = fbank(wave)[0].clone()
    with torch.no_grad():
        assert torch.equal(fbank(wave)[0], first)


# Padding, lengths, levels -------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("padding", ["mask", "reference"])
def test_a_clip_is_the_same_alone_and_in_a_padded_batch(gradient: bool, padding: str) -> None:
    front = FrontEnd(FbankConfig(padding=padding))
    lengths = torch.tensor([16000, 9999, 400, 250, 1, 0])
    batch = torch.zeros(len(lengths), 16000)
    for row, length in zip(batch, lengths.tolist(), strict=True):
        row[:length] = noise(length, seed=length)
    spec, frames = front(batch.requires_grad_(gradient), lengths)
    assert frames.tolist() == [98, 60, 1, 1, 1, 1]
    for row, length, count in zip(range(6), lengths.tolist(), frames.tolist(), strict=True):
        alone, own = front(batch[row : row + 1, :length])
        assert own.tolist() == [count]
        assert alone.shape[1] == count
        assert (spec[row, :count] - alone[0]).abs().max() < 1e-4
        assert (spec[row, count:] == front.pad_value).all()


def test_frame_counts_are_those_of_the_specification() -> None:
    config = FbankConfig()
    seconds = {10.0: 998, 5.0: 498, 1.0: 98}
    assert {s: config.frames(int(s * 16000)) for s in seconds} == seconds
    assert [config.frames(n) for n in (0, 1, 399, 400, 559, 560)] == [1, 1, 1, 1, 1, 2]
    assert FrontEnd(config).frames(16000) == 98


def test_silence_is_the_floor_and_so_is_one_filter_without_bins() -> None:
    spec, _ = KaldiFbank()(torch.zeros(1, 4000))
    assert torch.allclose(spec, torch.tensor(FLOOR))
    loud, _ = KaldiFbank()(noise(1, 4000))
    empty = (loud[0] - FLOOR).abs().max(0).values < 1e-5
    assert empty.nonzero().flatten().tolist() == [3]


@settings(max_examples=20, deadline=None)
@given(hops=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_shift_by_whole_hops_shifts_the_frames(hops: int, seed: int) -> None:
    config = SMALL
    wave = noise(1, 2000, seed=seed)
    fbank = KaldiFbank(config)
    whole, _ = fbank(wave)
    later, _ = fbank(wave[:, hops * config.hop_length :])
    assert (whole[:, hops:] - later).abs().max() < 1e-3


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.5, 8.0), offset=st.floats(-0.5, 0.5))
def test_gain_adds_to_the_logarithm_and_an_offset_changes_nothing(
    gain: float, offset: float
) -> None:
    wave = noise(1, 1000).double()
    fbank = KaldiFbank(SMALL)
    spec, _ = fbank(wave)
    changed, _ = fbank(gain * wave + offset)
    heard = (spec > FLOOR + 4) & (changed > FLOOR + 4)
    assert heard.any()
    gap = changed - spec - 2 * np.log(gain)
    assert gap[heard].abs().max() < 1e-6


def test_a_tone_is_loudest_in_the_filter_around_it() -> None:
    config = FbankConfig()
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 130)
    for hertz in (1000.0, 3000.0, 5000.0):
        wave = torch.sin(2 * torch.pi * hertz / 16000 * torch.arange(8000)).unsqueeze(0)
        loudest = KaldiFbank(config)(wave)[0].mean(1).argmax().item()
        assert edges[loudest] < 1127 * np.log1p(hertz / 700) < edges[loudest + 2]


# Gradients and precision --------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    front = FrontEnd(SMALL)
    wave = noise(2, 44, level=0.5).double().requires_grad_()
    lengths = torch.tensor([44, 32])
    assert torch.autograd.gradcheck(lambda w: front(w, lengths)[0], (wave,))


def test_gradient_reaches_every_sample_that_a_frame_weighs_and_no_padding() -> None:
    wave = noise(1, 1200).requires_grad_()
    spec, frames = FrontEnd()(wave, torch.tensor([880]))
    spec.square().sum().backward()
    assert frames.tolist() == [4]
    assert torch.isfinite(wave.grad).all()
    # Hann's first and last weights are zero; samples past the last real frame are in none.
    assert (wave.grad[0, 2:878] != 0).all()
    assert (wave.grad[0, 880:] == 0).all()


def test_gradient_of_silence_is_finite() -> None:
    wave = torch.zeros(1, 2000, requires_grad=True)
    FrontEnd()(wave)[0].sum().backward()
    assert (wave.grad == 0).all()


def test_fp32_under_autocast_and_after_half() -> None:
    wave = noise(1, 4000)
    front = FrontEnd()
    expected = front(wave)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front(wave)[0], expected)
        plain = front(wave.clone().requires_grad_())[0]
        assert plain.dtype == torch.float32
        assert (plain - expected).abs().max() < 1e-3
    halved = copy.deepcopy(front).to(torch.bfloat16)
    assert halved.transform.window.dtype == torch.float32
    assert (halved(wave.clone().requires_grad_())[0] - expected).abs().max() < 1e-3
    assert torch.equal(halved(wave)[0], expected)
    doubled = copy.deepcopy(front).double()
    assert torch.equal(doubled.transform.window, torch.hann_window(400, False, dtype=torch.float64))


def test_half_precision_and_strided_waveforms_are_taken() -> None:
    fbank, wave = KaldiFbank(), noise(2, 4000)
    assert torch.equal(fbank(wave.half())[0], fbank(wave.half().float())[0])
    strided = wave.T.contiguous().T
    assert strided.stride() != wave.stride()
    assert (fbank(strided)[0] - fbank(wave)[0]).abs().max() < 1e-3


def test_nothing_is_saved_with_the_weights_and_copies_work() -> None:
    front, wave = FrontEnd(), noise(1, 4000)
    assert not front.state_dict()
    expected = front(wave)[0]
    for twin in (copy.deepcopy(front), pickle.loads(pickle.dumps(front))):
        assert torch.equal(twin(wave)[0], expected)


@pytest.mark.slow
def test_compiles_without_breaks_to_the_differentiable_form() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    fbank, wave = KaldiFbank(SMALL), noise(1, 500)
    compiled = torch.compile(fbank, backend=backend, fullgraph=True)
    with torch.no_grad():
        assert (compiled(wave)[0] - fbank(wave)[0]).abs().max() < 1e-3
    assert len(graphs) == 1


@pytest.mark.gpu
def test_a_gpu_gives_the_same() -> None:
    front, wave = FrontEnd(), noise(3, 16000)
    lengths = torch.tensor([16000, 8000, 100])
    spec, frames = front(wave, lengths)
    there, count = front.cuda()(wave.cuda(), lengths.cuda())
    assert count.tolist() == frames.tolist()
    assert (there.cpu() - spec).abs().max() < 5e-3


# Bad options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sample_rate": 0}, "sample_rate"),
        ({"n_mels": 0}, "n_mels"),
        ({"std": 0.0}, "std"),
        ({"std": float("nan")}, "std"),
        ({"mean": float("inf")}, "mean"),
        ({"log_floor": 0.0}, "log_floor"),
        ({"hop_ms": 0.0}, "hop_ms"),
        ({"window_ms": 0.01}, "window_ms"),
        ({"low_hz": 9000.0}, "low_hz"),
        ({"high_hz": 9000.0}, "high_hz"),
        ({"low_hz": -1.0}, "low_hz"),
        ({"preemphasis": 1.5}, "preemphasis"),
        ({"window": "rectangle"}, "window"),
        ({"padding": "zeros"}, "padding"),
    ],
)
def test_bad_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        FbankConfig(**options)


def test_a_waveform_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="batch, samples"):
        KaldiFbank()(torch.zeros(4000))
