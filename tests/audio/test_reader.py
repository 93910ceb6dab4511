from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonoformer.audio.reader import Reader

from .conftest import Make, noise


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Sound that jumps between silence and noise, which fills the bit reservoir of MP3."""
    rng = np.random.default_rng(3)
    rate, seconds = 8000, 80
    level = np.repeat(rng.choice([0, 1e-4, 0.01, 0.1, 1], seconds * 8), rate // 8)
    x = np.clip(rng.standard_normal(rate * seconds) * 0.3 * level, -1, 1)
    folder, made = tmp_path_factory.mktemp("streams"), {}
    for name, options in {
        "variable.mp3": {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.9},
        "constant.mp3": {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.99},
        "a.ogg": {"format": "OGG", "subtype": "VORBIS"},
        "a.flac": {"format": "FLAC"},
    }.items():
        with soundfile.SoundFile(folder / name, "w", rate, 1, **options) as file:
            for first in range(0, len(x), rate):
                file.write(x[first : first + rate])
        # In one call, so that nothing is sought.
        with soundfile.SoundFile(folder / name) as file:
            made[name] = folder / name, file.read(dtype="float32", always_2d=True)
    return made


NAMES = ["variable.mp3", "constant.mp3", "a.ogg", "a.flac"]


@pytest.mark.parametrize("name", NAMES)
def test_any_place_is_entered_exactly(
    streams: dict[str, tuple[Path, np.ndarray]], name: str
) -> None:
    path, whole = streams[name]
    rng = np.random.default_rng(0)
    near, far = rng.integers(0, 60 * 8000, 3), rng.integers(63 * 8000, len(whole) - 3000, 20)
    for place in [0, 1, *near, *far]:
        with Reader(path) as file:
            assert file.enter(int(place))
            np.testing.assert_allclose(file.take(3000), whole[place : place + 3000], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_reading_on_is_seamless(streams: dict[str, tuple[Path, np.ndarray]], name: str) -> None:
    path, whole = streams[name]
    with Reader(path) as file:
        parts = []
        while len(part := file.take(10_007)):
            parts.append(part)
            assert file.position == sum(map(len, parts))
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_back_and_forth(streams: dict[str, tuple[Path, np.ndarray]], name: str) -> None:
    path, whole = streams[name]
    with Reader(path) as file:
        for place in (550_000, 5000, 600_000, 600_500, 0, 560_000):
            assert file.enter(place)
            np.testing.assert_allclose(file.take(200), whole[place : place + 200], atol=1e-6)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_beyond_the_end(make: Make, name: str) -> None:
    path = make(name, noise(1.0, 16000), 16000)
    with Reader(path) as file:
        assert not file.enter(2_000_000)
        assert file.enter(15_990)
        assert len(file.take(100)) == 10
        assert len(file.take(100)) == 0
