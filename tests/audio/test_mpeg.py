"""MP3 streams that lack the frame which says how long they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonoformer.audio import probe, read, read_native, stream
from sonoformer.audio.mpeg import _frame, _next_frame, stated_length


def mp3(path: Path, rate: int, *, channels: int = 1, loud_first: bool = True) -> Path:
    """Half noise, half silence at a variable bit rate."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((rate * 3, channels)) * 0.2, np.zeros((rate * 3, channels))]
    x = np.concatenate(parts if loud_first else parts[::-1])
    with soundfile.SoundFile(
        path, "w", rate, channels, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as file:
        for first in range(0, len(x), rate):
            file.write(x[first : first + rate])
    return path


def without_length(path: Path, tag: bytes = b"") -> Path:
    data = path.read_bytes()
    start = _next_frame(data, 0, None)
    assert start is not None
    frame = _frame(data, start)
    assert frame is not None
    other = path.with_name("cut.mp3")
    other.write_bytes(tag + data[start + frame.size :])
    return other


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 2), (16000, 2), (8000, 1)])
@pytest.mark.parametrize("loud_first", [True, False])
def test_the_whole_stream_is_read(
    tmp_path: Path, rate: int, channels: int, loud_first: bool
) -> None:
    whole = mp3(tmp_path / "a.mp3", rate, channels=channels, loud_first=loud_first)
    assert stated_length(whole, probe(whole).frames) is None
    cut = without_length(whole)
    want, got = read_native(whole)[0], read_native(cut)[0]
    info = probe(cut)
    assert info.frames == len(got)
    assert abs(info.duration - 6.0) < 0.3
    assert (info.sample_rate, info.channels, info.format) == (rate, channels, "MP3")
    # Only the encoder's delay, which the lost frame told, is no longer taken off.
    a = 5 * rate // 2
    lag = min(range(2500), key=lambda k: float(np.abs(got[a + k :][:rate] - want[a:][:rate]).sum()))
    length = min(len(want), len(got) - lag)
    np.testing.assert_allclose(got[lag : lag + length], want[:length], atol=1e-4)


def test_guesses_that_hold_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(
        path, "w", 44100, 1, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5
    ) as file:
        file.write(np.random.default_rng(0).standard_normal(44100 * 4) * 0.2)
    cut = without_length(path)
    with soundfile.SoundFile(cut) as file:
        guessed = file.frames
    assert abs(guessed - 44100 * 4) < 3000
    assert stated_length(cut, guessed) is None
    assert abs(probe(cut).frames - 44100 * 4) < 3000


def test_slices_and_windows(tmp_path: Path) -> None:
    cut = without_length(mp3(tmp_path / "a.mp3", 44100))
    whole = read(cut, 16000)
    for start in (0.0, 1.0, 3.7, 5.5):
        got = read(cut, 16000, start=start, end=start + 0.4)
        first = round(start * 16000)
        np.testing.assert_allclose(got, whole[first : first + 6400], atol=1e-6)
    joined = np.concatenate([w.samples[: w.valid] for w in stream(cut, 16000, window=1, hop=1)])
    np.testing.assert_allclose(joined, whole, atol=1e-6)


def test_tags_and_damage_are_stepped_over(tmp_path: Path) -> None:
    whole = mp3(tmp_path / "a.mp3", 44100)
    tag = b"ID3\x03\0\0" + bytes([0, 0, 2, 0]) + b"\xff\xfb" * 128
    cut = without_length(whole, tag)
    frames = probe(cut).frames
    assert abs(frames / 44100 - 6.0) < 0.3
    data = bytearray(cut.read_bytes())
    data[20_000:20_300] = bytes(300)
    cut.write_bytes(data + b"TAG" + bytes(125))
    assert frames - 5 * 1152 < probe(cut).frames < frames


def test_a_replaced_file_is_counted_anew(tmp_path: Path) -> None:
    cut = without_length(mp3(tmp_path / "a.mp3", 44100))
    frames = probe(cut).frames
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert probe(cut).frames < frames * 0.7
