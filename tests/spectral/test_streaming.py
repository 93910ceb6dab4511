"""Sound in chunks gives the frames of the whole clip, whatever the chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.kaldi import FbankConfig, KaldiFbank
from sonoformer.spectral.kaldi_stream import FbankStream
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.mfcc import Mfcc
from sonoformer.spectral.stft import Stft


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def streamed(transform: Stft, wave: Tensor, chunks: Sequence[int]) -> Tensor:
    """All frames, given chunks of these lengths again and again."""
    state, parts, start, turn = transform.stream_state(wave.shape[:-1]), [], 0, 0
    while start < wave.shape[-1]:
        stop = start + chunks[turn % len(chunks)]
        out, state = transform.stream(wave[..., start:stop], state)
        parts.append(out)
        start, turn = stop, turn + 1
    return torch.cat([*parts, transform.flush(state)], -2)


MEL = {"sample_rate": 2000, "n_fft": 64, "n_mels": 8}
MAKERS: dict[str, Callable[..., Stft]] = {
    "stft": lambda **o: Stft(n_fft=64, **o),
    "mel": lambda **o: MelSpectrogram(**MEL, **o),
    "mfcc": lambda **o: Mfcc(n_mfcc=5, mel=MelConfig(**MEL, **o)),
}  # type: ignore[dict-item]


@settings(max_examples=30)
@given(
    what=st.sampled_from(list(MAKERS)),
    samples=st.integers(1, 700),
    chunks=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    hop=st.sampled_from([1, 16, 40, 64, 100]),
    center=st.booleans(),
    pad_mode=st.sampled_from(["reflect", "zeros", "replicate"]),
)
def test_any_chunks_give_the_offline_frames(
    what: str, samples: int, chunks: list[int], hop: int, center: bool, pad_mode: str
) -> None:
    transform = MAKERS[what](hop_length=hop, center=center, pad_mode=pad_mode)
    wave = noise(2, samples)
    exact, frames = transform(wave)
    found = streamed(transform, wave, chunks)
    assert found.shape == exact.shape
    assert found.shape[-2] == frames[0]
    # Levels of nearly empty cells are round-off alone, hence the square of the usual gap.
    assert torch.allclose(found, exact, rtol=1e-5, atol=1e-6 if what == "stft" else 1e-3)


@pytest.mark.parametrize("what", ["stft", "mel"])
def test_frames_without_padding_are_bit_equal(what: str) -> None:
    options = {"hop_length": 16, "center": False}
    wave = noise(3000)
    for chunk in (100, 160, 1000):
        transform = MAKERS[what](**options)
        exact, found = transform(wave)[0], streamed(transform, wave, [chunk])
        gap = (found - exact).abs().max()
        assert gap == 0 if what == "stft" else gap < 1e-5


@settings(max_examples=20)
@given(samples=st.integers(1, 3000), chunks=st.lists(st.integers(1, 900), min_size=1, max_size=3))
def test_kaldis_filterbank(samples: int, chunks: list[int]) -> None:
    fbank = KaldiFbank(FbankConfig(sample_rate=4000, n_mels=12))
    stream, wave = FbankStream(fbank), noise(2, 1, samples)
    found = streamed(stream, wave, chunks)  # type: ignore[arg-type]
    exact, _ = fbank(wave.flatten(0, 1))
    assert found.shape == (2, 1, *exact.shape[1:])
    assert torch.allclose(found.flatten(0, 1), exact, atol=1e-4)
    assert stream.latency_samples == 100


@pytest.mark.parametrize("center", [True, False])
def test_a_frame_is_given_after_the_latency_it_says(center: bool) -> None:
    stft = Stft(n_fft=64, hop_length=16, center=center)
    for frame in (0, 1, 7):
        due = frame * 16 + stft.latency_samples
        out, _ = stft.stream(noise(due), stft.stream_state())
        assert len(out) >= frame + 1
        if frame:
            out, _ = stft.stream(noise(due - 2), stft.stream_state())
            assert len(out) == frame


def test_a_state_can_be_used_twice() -> None:
    mel = MelSpectrogram(**MEL, hop_length=16)
    _, state = mel.stream(noise(100), mel.stream_state())
    kept = [part.clone() for part in state]
    chunk = noise(300, seed=1)
    first, _ = mel.stream(chunk, state)
    second, _ = mel.stream(chunk, state)
    mel.flush(state)
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))


def test_states_stay_small() -> None:
    stft = Stft(n_fft=64, hop_length=16)
    state = stft.stream_state()
    for _ in range(20):
        _, state = stft.stream(noise(1000), state)
        assert state.tail.numel() <= 64
        assert state.tail.untyped_storage().nbytes() <= 4 * 64
    assert state.heard == 20000


def test_gradients_reach_the_chunk() -> None:
    mel = MelSpectrogram(**MEL, hop_length=16)
    chunk = noise(300).requires_grad_()
    out, _ = mel.stream(chunk, mel.stream_state())
    (grad,) = torch.autograd.grad(out.sum(), chunk)
    assert grad.abs().max() > 0


def test_what_needs_the_whole_clip_is_refused() -> None:
    with pytest.raises(UserError, match="top_db"):
        Mfcc().stream_state()
    with pytest.raises(UserError, match="last_frame"):
        MelSpectrogram(last_frame=False).stream_state()
    stft = Stft(n_fft=64)
    with pytest.raises(ValueError, match="chunk should be"):
        stft.stream(noise(2, 10), stft.stream_state())
