"""Stretches read straight from their files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from sonoformer.audio import read, write
from sonoformer.data.sources import FileSource, Stretch
from sonoformer.errors import AudioError


def noise(seconds: float, rate: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 16000), ("flac", 16000), ("flac", 22050)])
def test_a_crop_is_that_part_of_the_stretch(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"x.{suffix}"
    write(path, noise(3.0, rate), rate)
    source = FileSource([Stretch(str(path), 0.5, 2.75)], 16000)
    whole = read(path, 16000)[8000:44000]
    assert source.lengths.tolist() == [36000]
    for start, count in ((0, 36000), (1, 100), (777, 16000), (35990, 10)):
        part = source.read(0, start, count)
        assert part.dtype == np.float32
        assert len(part) == count
        np.testing.assert_allclose(part, whole[start : start + count], atol=1e-5)


def test_a_crop_never_reaches_beyond_the_stretch(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", noise(1.0, 16000), 16000)
    source = FileSource([Stretch(str(tmp_path / "x.wav"), 0.0, 0.25)], 16000)
    assert len(source.read(0, 3000, 5000)) == 1000


def test_a_channel_is_taken_alone(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", np.stack([noise(1, 8000), np.zeros(8000, np.float32)], 1), 8000)
    stretches = [Stretch(str(tmp_path / "x.wav"), 0.0, 1.0, c) for c in (0, 1, "mix")]  # type: ignore[arg-type]
    source = FileSource(stretches, 8000)
    left, right, both = (source.read(i, 0, 8000) for i in range(3))
    assert not right.any()
    np.testing.assert_allclose(both, left / 2, atol=1e-6)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    source = FileSource([Stretch(str(tmp_path / "gone.wav"), 0.0, 1.0)], 16000)
    assert source.name(0).endswith("gone.wav")
    with pytest.raises(AudioError, match=r"gone\.wav"):
        source.read(0, 0, 10)


def test_a_source_goes_to_other_processes(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", noise(1.0, 16000), 16000)
    source = FileSource([Stretch(str(tmp_path / "x.wav"), 0.0, 1.0)], 16000)
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy.read(0, 5, 50), source.read(0, 5, 50))
