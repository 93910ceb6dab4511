"""The inverse transform brings back what was transformed, to the last sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.istft import Istft, added
from sonoformer.spectral.stft import Stft

FORMS = ["auto", "gemm"]


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("n_fft", "hop", "win_length", "pad_mode", "backend"),
    [
        (2048, 512, None, "reflect", "auto"),
        (512, 100, 400, "reflect", "gemm"),
        (512, 128, None, "zeros", "auto"),
        (256, 64, 256, "replicate", "auto"),
        (256, 50, 256, "zeros", "gemm"),
    ],
)
def test_brings_back_the_sound(
    n_fft: int, hop: int, win_length: int | None, pad_mode: str, backend: str
) -> None:
    options = {
        "n_fft": n_fft,
        "hop_length": hop,
        "win_length": win_length,
        "pad_mode": pad_mode,
        "backend": backend,
    }
    wave, lengths = noise(2, 3, 9000), torch.tensor([[9000, 5000, 1], [8999, 513, 64]])
    re, im, _ = Stft(**options).planes(wave, lengths)
    found, ends = Istft(**options)(re, im, lengths, 9000)
    assert torch.equal(ends, lengths)
    inside = torch.arange(9000) < lengths[..., None]
    exact = torch.where(inside, wave, 0)
    assert (found - exact).abs().max() < 5e-6 * exact.abs().max()
    assert (found[~inside] == 0).all()


@settings(max_examples=40)
@given(
    samples=st.integers(1, 500),
    hop=st.integers(1, 16),
    window=st.sampled_from(["hann", "hamming", "blackman", "rectangular"]),
)
def test_is_exact_for_any_length_and_hop(samples: int, hop: int, window: str) -> None:
    stft = Stft(n_fft=64, hop_length=hop, window=window).double()
    wave = noise(samples).double()
    found, end = stft.inverse(*stft.planes(wave)[:2], length=samples)
    assert end.item() == samples
    assert (found - wave).abs().max() < 1e-9


def test_without_centring_all_is_brought_back_but_what_the_window_did_not_let_through() -> None:
    stft = Stft(n_fft=64, hop_length=16, center=False).double()
    wave = noise(64 + 16 * 20).double()
    found, _ = stft.inverse(*stft.planes(wave)[:2])
    assert found.shape == wave.shape
    assert found[0] == 0
    assert (found - wave)[8:-8].abs().max() < 1e-9


def test_agrees_with_torch() -> None:
    stft, wave = Stft(n_fft=256, hop_length=64), noise(2, 4000)
    re, im, _ = stft.planes(wave)
    # Not a spectrum of any sound: the nearest one.
    re, im = re + noise(*re.shape, seed=1), im + noise(*im.shape, seed=2)
    im[..., 0] = im[..., -1] = 0
    window = torch.hann_window(256)
    spectrum = torch.complex(re, im).transpose(1, 2)
    exact = torch.istft(spectrum, 256, 64, window=window, length=4000)
    for inverse in (stft.inverse, Istft(n_fft=256, hop_length=64, backend="gemm")):
        found, _ = inverse(re, im, length=4000)
        assert (found - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize("backend", FORMS)
def test_gradients(backend: str) -> None:
    inverse = Istft(n_fft=8, hop_length=2, backend=backend).double()
    planes = noise(2, 1, 6, 5).double().requires_grad_()
    lengths = torch.tensor([9])
    assert torch.autograd.gradcheck(lambda p: inverse(p[0], p[1], lengths, 10)[0], planes)


@pytest.mark.parametrize(("what", "name"), [("window", "synthesis"), ("kernels", "kernels")])
def test_a_learnt_synthesis_begins_as_the_inverse(what: str, name: str) -> None:
    inverse = Istft(n_fft=32, hop_length=8, trainable=what)
    wave = noise(1, 200)
    re, im, _ = Stft(n_fft=32, hop_length=8).planes(wave)
    found, _ = inverse(re, im, length=200)
    assert (found - wave).abs().max() < 1e-6
    found.square().sum().backward()
    learnt = getattr(inverse, name)
    assert list(inverse.state_dict()) == [name]
    assert learnt.grad.abs().max() > 0
    with torch.no_grad():
        learnt.mul_(2)
    assert (inverse(re, im, length=200)[0] - 2 * wave).abs().max() < 1e-5
    inverse.reset_to_analytic()
    assert torch.equal(inverse(re, im, length=200)[0], found)


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=3),
    hop=st.sampled_from([7, 16, 24]),
    center=st.booleans(),
)
def test_blocks_and_the_plain_expression_agree(lengths: list[int], hop: int, center: bool) -> None:
    inverse = Istft(n_fft=64, hop_length=hop, center=center)
    count = inverse.framing.frames(max(lengths))
    re, im = noise(2, len(lengths), count, 33)
    ends = torch.tensor(lengths)
    blocked, _ = inverse(re, im, ends, 3100)
    plain, _ = inverse(re.requires_grad_(), im, ends, 3100)
    assert plain.requires_grad
    assert not blocked.requires_grad
    # At clips' ends a small window's share is divided by.
    assert (blocked - plain).abs().max() <= 1e-5 * plain.abs().max()
    own = slice(inverse.framing.frames(lengths[0]))
    alone, _ = inverse(re[0, own].detach(), im[0, own], length=lengths[0])
    assert (alone - blocked[0, : lengths[0]]).abs().max() <= 1e-5 * plain.abs().max()


def test_longer_and_shorter_rows() -> None:
    stft, wave = Stft(n_fft=64, hop_length=16), noise(2, 320)
    re, im, _ = stft.planes(wave)
    longer, ends = stft.inverse(re, im, torch.tensor([320, 320]), 400)
    assert longer.shape == (2, 400)
    assert (longer[:, 320:] == 0).all()
    assert torch.allclose(longer[:, :320], wave, atol=1e-6)
    assert ends.tolist() == [320, 320]
    assert torch.allclose(stft.inverse(re, im, length=100)[0], wave[:, :100], atol=1e-6)
    assert stft.inverse(re, im)[0].shape == (2, 320)


def test_frames_are_added_where_they_overlap() -> None:
    frames = torch.arange(12.0).reshape(3, 4)
    total = torch.zeros(10)
    for start, frame in zip((0, 3, 6), frames, strict=True):
        total[start : start + 4] += frame
    assert torch.equal(added(frames, 3)[:10], total)


def test_what_has_no_inverse_is_refused() -> None:
    with pytest.raises(UserError, match="hop_length: frames every 64"):
        Istft(n_fft=64, hop_length=64)
    stft = Stft(n_fft=64, hop_length=16, trainable="kernels")
    re, im, _ = stft.planes(noise(100))
    with pytest.raises(UserError, match="trainable"):
        stft.inverse(re, im)
