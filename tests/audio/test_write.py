from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonoformer.audio import probe, read, read_native, write
from sonoformer.errors import AudioError, UserError

from .conftest import noise


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.mark.parametrize(
    ("name", "step"),
    [("a.wav", 2**-15), ("a.rf64", 2**-15), ("a.flac", 2**-15), ("a.aiff", 2**-15)],
)
def test_what_is_written_is_read(tmp_path: Path, name: str, step: float) -> None:
    x = noise(1.3, 22050, 2)
    write(tmp_path / name, x, 22050)
    for channel in range(2):
        got, rate = read_native(tmp_path / name, channel=channel)
        assert rate == 22050
        np.testing.assert_allclose(got, x[:, channel], atol=step * 1.01, rtol=0)


def test_codings(tmp_path: Path) -> None:
    x = noise(0.5, 8000)[:, 0]
    write(tmp_path / "a.wav", x, 8000, subtype="float")
    np.testing.assert_array_equal(read(tmp_path / "a.wav", 8000), x)
    write(tmp_path / "a.flac", x, 8000, subtype="PCM_24")
    assert probe(tmp_path / "a.flac").subtype == "PCM_24"


def test_integers_and_clipping(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.array([0, 16384, -32768], np.int16), 8000)
    np.testing.assert_array_equal(read(tmp_path / "a.wav", 8000), [0, 0.5, -1])
    write(tmp_path / "b.wav", np.array([2.0, -2.0]), 8000)
    np.testing.assert_allclose(read(tmp_path / "b.wav", 8000), [1, -1], atol=1e-4)


def test_long_vorbis_does_not_overflow_the_encoders_stack(tmp_path: Path) -> None:
    """Given 4 s in one call, libsndfile ends a process whose stack is as small as this."""
    program = f"""
import os, threading, numpy as np
from sonoformer.audio import write
os.fsync = lambda descriptor: None
x = np.random.default_rng(0).uniform(-0.1, 0.1, (20 * 16000, 2))
threading.stack_size(512 * 1024)
thread = threading.Thread(target=write, args=({str(tmp_path / "a.ogg")!r}, x, 16000))
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert probe(tmp_path / "a.ogg").frames == 20 * 16000


@pytest.mark.parametrize("name", ["a.wav", "a.rf64", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aif"])
@pytest.mark.parametrize(
    "began",
    [
        datetime(2021, 6, 12, 19, 30),
        datetime(2021, 6, 12, 19, 30, 5, 250000, UTC),
        datetime(2021, 6, 12, 19, 30, tzinfo=timezone(-timedelta(hours=3.5))),
        datetime(2021, 6, 12, 19, 30, tzinfo=timezone(timedelta(hours=10))),
    ],
)
def test_the_recording_start_comes_back(tmp_path: Path, name: str, began: datetime) -> None:
    write(tmp_path / name, noise(0.5, 24000), 24000, recorded_at=began)
    info = probe(tmp_path / name)
    assert info.recorded_at == began.replace(tzinfo=None)
    assert info.utc_offset == began.utcoffset()


def test_beyond_four_gigabytes_wav_becomes_rf64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["sonoformer.audio.write"], "_WAV_LIMIT", 1000)
    write(tmp_path / "a.wav", noise(0.1, 8000), 8000)
    assert probe(tmp_path / "a.wav").format == "RF64"
    assert len(read(tmp_path / "a.wav", 8000)) == 800


@pytest.mark.parametrize(
    ("name", "samples", "rate", "subtype", "said"),
    [
        ("a.m4a", np.zeros(10), 8000, None, r"its name must end in one of \.wav"),
        ("a", np.zeros(10), 8000, None, "its name must end in one of"),
        ("a.wav", np.zeros(10), 8000, "VORBIS", "WAV has no coding 'VORBIS'; it has PCM_16"),
        ("a.wav", np.zeros(0), 8000, None, "nothing to write"),
        ("a.wav", np.zeros((2, 2, 2)), 8000, None, "nothing to write"),
        ("a.wav", np.array([0, np.nan]), 8000, None, "a sample is NaN or infinite"),
        ("a.opus", np.zeros(10), 44100, None, "cannot be written as OPUS with 1 channel at 44100"),
        ("a.mp3", np.zeros((10, 6)), 48000, None, "MPEG_LAYER_III with 6 channels"),
        ("a.wav", np.zeros(10), 0, None, "sample_rate: 0"),
    ],
)
def test_refusals_leave_nothing(
    tmp_path: Path, name: str, samples: np.ndarray, rate: int, subtype: str | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        write(tmp_path / name, samples, rate, subtype=subtype)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    write(path, np.full(100, 0.5), 8000)

    def fail(self: soundfile.SoundFile, data: np.ndarray) -> None:
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match="cannot be written as PCM_16"):
        write(path, np.zeros(10), 8000)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    np.testing.assert_array_equal(read(path, 8000), np.full(100, 0.5))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file size")
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_disk_without_room(tmp_path: Path, name: str) -> None:
    """A limit on file size stops writing as a full disk does."""
    program = f"""
import os, resource, numpy as np
from sonoformer.audio import write
from sonoformer.errors import UserError
os.fsync = lambda descriptor: None
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
x = np.random.default_rng(0).uniform(-1, 1, 500_000)
try:
    write({str(tmp_path / name)!r}, x, 44100)
except UserError as error:
    print("said:", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"said: {tmp_path / name}: cannot be written" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
