from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.audio.decode import TruncatedWarning, read
from sonoformer.audio.stream import stream
from sonoformer.errors import AudioError, UserError

from .conftest import Make, noise


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """33 s, more than three sections, in several formats."""
    folder = tmp_path_factory.mktemp("long")
    x, paths = noise(33.25, 12000, 2), {}
    for kind in ("wav", "flac", "ogg", "mp3", "aiff"):
        paths[kind] = folder / f"a.{kind}"
        with soundfile.SoundFile(paths[kind], "w", 12000, 2) as file:
            for first in range(0, len(x), 12000):
                file.write(x[first : first + 12000])
    paths["opus"] = folder / "a.opus"
    with soundfile.SoundFile(paths["opus"], "w", 12000, 2, format="OGG", subtype="OPUS") as file:
        for first in range(0, len(x), 12000):
            file.write(x[first : first + 12000])
    return paths


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "opus"])
@pytest.mark.parametrize("rate", [16000, 12000])
def test_windows_are_stretches_of_the_whole(long: dict[str, Path], kind: str, rate: int) -> None:
    whole = read(long[kind], rate)
    windows = list(stream(long[kind], rate, window=4.0, hop=1.5))
    assert [w.index for w in windows] == list(range(len(windows)))
    for window in windows:
        assert window.start == window.index * 1.5
        assert window.end == window.start + 4.0
        first = round(window.start * rate)
        assert window.samples.shape == (round(4.0 * rate),)
        assert window.valid == min(4 * rate, len(whole) - first)
        want = whole[first : first + window.valid]
        np.testing.assert_allclose(window.samples[: window.valid], want, atol=2e-6, rtol=0)
        assert not window.samples[window.valid :].any()
    assert first + 4 * rate >= len(whole) > round(windows[-2].start * rate) + 4 * rate


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "ogg"])
@pytest.mark.parametrize("first", [1, 6, 7, 13, 20])
def test_resumed_windows_are_equal_bit_for_bit(
    long: dict[str, Path], kind: str, first: int
) -> None:
    whole = list(stream(long[kind], 16000, window=2.0, hop=1.5))
    resumed = list(stream(long[kind], 16000, window=2.0, hop=1.5, first=first))
    assert [w.index for w in resumed] == [w.index for w in whole[first:]]
    for a, b in zip(resumed, whole[first:], strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        assert (a.start, a.valid) == (b.start, b.valid)


@pytest.mark.parametrize("kind", ["mp3", "opus"])
def test_resumed_windows_of_decoders_with_memory(long: dict[str, Path], kind: str) -> None:
    whole = list(stream(long[kind], 16000, window=2.0, hop=1.5))
    for a, b in zip(
        stream(long[kind], 16000, window=2.0, hop=1.5, first=9), whole[9:], strict=True
    ):
        np.testing.assert_allclose(a.samples, b.samples, atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 200_000),
    window=st.floats(0.01, 30),
    hop=st.floats(0.3, 30),
    first=st.integers(0, 30),
)
def test_windows_end_with_the_first_that_reaches_the_end(
    tmp_path_factory: pytest.TempPathFactory, frames: int, window: float, hop: float, first: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "ends.wav"
    soundfile.write(path, np.full(frames, 0.25, np.float32), 8000)
    length = round(window * 8000)
    starts = [round(i * hop * 8000) for i in range(200)]
    want = 1
    while starts[want] < frames and starts[want - 1] + length < frames:
        want += 1
    got = list(stream(path, 8000, window=window, hop=hop, first=first))
    assert [w.index for w in got] == list(range(first, want))
    for w in got:
        assert w.valid == min(length, frames - starts[w.index])
        assert (w.samples[: w.valid] == 0.25).all()
        assert not w.samples[w.valid :].any()


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.flac"
        with soundfile.SoundFile(path, "w", 24000, 2) as file:
            for _ in range(seconds // 5):
                file.write(np.zeros((24000 * 5, 2), np.float32))
        tracemalloc.start()
        try:
            for _ in stream(path, 16000, window=5.0, hop=5.0):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = peak(40), peak(160)
    assert long < short * 1.2
    assert long < 16e6


def test_six_channels_at_96_khz(make: Make) -> None:
    x = noise(10.2, 96000, 6)
    path = make("a.wav", x, 96000, subtype="PCM_24")
    windows = list(stream(path, 32000, window=6.0, hop=6.0, channel=4))
    whole = read(path, 32000, channel=4)
    joined = np.concatenate([w.samples[: w.valid] for w in windows])
    np.testing.assert_allclose(joined, whole, atol=1e-6, rtol=0)


def test_one_sample_makes_one_window(make: Make) -> None:
    (window,) = stream(make("a.wav", np.full((1, 1), 0.5), 44100), 16000, window=1.0, hop=0.5)
    assert (window.index, window.valid, window.samples.shape) == (0, 1, (16000,))


def test_a_first_past_the_end_gives_nothing(long: dict[str, Path]) -> None:
    assert list(stream(long["wav"], 16000, window=2, hop=2, first=17)) == []
    assert list(stream(long["wav"], 16000, window=2, hop=2, first=10**6)) == []


def test_windows_before_a_damaged_stretch_are_given(make: Make) -> None:
    path = make("a.flac", noise(30, 16000), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.warns(TruncatedWarning):
        windows = list(stream(path, 16000, window=2.0, hop=2.0))
    assert 9 <= len(windows) <= 14
    assert all(w.valid == 32000 for w in windows[:-1])
    with pytest.warns(TruncatedWarning):
        resumed = list(stream(path, 16000, window=2.0, hop=2.0, first=5))
    for a, b in zip(resumed, windows[5:], strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)


def test_a_nan_comes_after_the_sections_before_it(make: Make) -> None:
    x = noise(25, 8000)
    x[22 * 8000] = np.nan
    path = make("a.wav", x, 8000, subtype="FLOAT")
    seen = []
    windows = stream(path, 16000, window=3.0, hop=3.0)
    with pytest.raises(AudioError, match=r"NaN or infinity, first at 22\.000 s"):
        seen.extend(window.index for window in windows)
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 0.0, "hop": 1.0}, "window: 0.0 s is shorter than one sample"),
        ({"window": 1.0, "hop": 0.0}, "hop: 0.0 s is shorter"),
        ({"window": float("nan"), "hop": 1.0}, "window: nan s"),
        ({"window": float("inf"), "hop": 1.0}, "window: inf s"),
        ({"window": 1.0, "hop": 1.0, "first": -1}, "first: -1 is not a window number"),
    ],
)
def test_options_are_checked_at_the_call(
    long: dict[str, Path], options: dict[str, float], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        stream(long["wav"], 16000, **options)  # type: ignore[arg-type]
