from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonoformer.audio import probe, read, stream
from sonoformer.audio.opening import opened
from sonoformer.errors import AudioError

from .conftest import Make, fmt, noise, wav

JUNK = np.random.default_rng(5).bytes(5000)
BAD = {
    "empty.wav": (b"", r"is empty \(0 bytes\)"),
    "text.wav": (b"Selection\tView\tChannel\n" * 50, "is text, not sound"),
    "text.mp3": (b"Selection\tView\tChannel\n" * 50, "is text, not sound"),
    "text.au": (b"Selection\tView\tChannel\n" * 50, "has no header"),
    "text.raw": (b"Selection\tView\tChannel\n" * 50, "is text, not sound"),
    "junk.wav": (JUNK, r"is damaged or is no sound file \(Format not recognised\)"),
    "junk.flac": (b"fLaC" + JUNK, "is damaged or is no sound file"),
    "head.wav": (wav()[:36], "is damaged or is no sound file"),
    "cut.wav": (b"RIFF", "is damaged or is no sound file"),
    "none.wav": (wav(samples=0), r"holds no sound \(0 samples\)"),
    "unfinished.wav": (
        wav(samples=4000).replace(b"data\x40\x1f\0\0", b"data\0\0\0\0"),
        "its header says it holds no sound, though some .* bytes follow",
    ),
    "rate.wav": (wav(rate=0), "is damaged or is no sound file"),
    "phone.m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0" + JUNK, "is MP4 or M4A, which cannot be read; con"),
    "named.wav": (b"\0\0\0\x20ftypM4A \0\0\0\0" + JUNK, "is MP4 or M4A, which cannot be read"),
    "film.webm": (b"\x1a\x45\xdf\xa3" + JUNK, "is Matroska or WebM"),
    "old.wma": (b"\x30\x26\xb2\x75" + JUNK, "is Windows Media"),
    "adts.aac": (b"\xff\xf1\x50\x80" + JUNK, "is AAC"),
    "odd.ape": (JUNK, r"\.ape files cannot be read; convert it to WAV or FLAC"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence_from_every_door(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    for door in (
        probe,
        lambda p: read(p, 16000),
        lambda p: next(stream(p, 16000, window=1, hop=1)),
    ):
        with pytest.raises(AudioError, match=said) as caught:
            door(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        probe(tmp_path / "missing.wav")
    folder = tmp_path / "folder.wav"
    folder.mkdir()
    with pytest.raises(AudioError, match="is a folder, not a sound file"):
        probe(folder)
    broken = tmp_path / "broken.wav"
    broken.symlink_to("gone.wav")
    with pytest.raises(AudioError, match=r"is a link to gone\.wav, which does not exist"):
        probe(broken)
    loop = tmp_path / "loop.wav"
    loop.symlink_to(loop)
    with pytest.raises(AudioError, match="cannot be reached"):
        probe(loop)
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    with pytest.raises(AudioError, match="is not a regular file"):
        probe(pipe)
    with pytest.raises(AudioError, match="cannot be reached"):
        probe(folder / ("x" * 300 + ".wav"))
    with pytest.raises(AudioError, match="cannot be reached"):
        probe("a\0b.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_a_file_without_permission(make: Make, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = make(name, noise(0.5, 16000), 16000)

    # Tests may run as root, whom no permission stops.
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    def fail(*args: object, **options: object) -> None:
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("sonoformer.audio.opening.Reader", fail)
    with pytest.raises(AudioError, match="no permission to read it"):
        read(path, 16000)


def test_content_decides_not_the_name(make: Make) -> None:
    path = make("a.flac", noise(0.5, 16000), 16000)
    for name in ("b.wav", "b.mp3", "b", "b.xyz"):
        other = path.with_name(name)
        other.write_bytes(path.read_bytes())
        assert probe(other).format == "FLAC"
        assert len(read(other, 16000)) == 8000


def test_names_of_any_script(make: Make) -> None:
    path = make("Épervier d’Europe 鳥 [1].wav", noise(0.1, 16000), 16000)
    assert len(read(path, 16000)) == 1600
    assert len(read(str(path), 16000)) == 1600


def test_a_wav_cut_inside_its_header_chunk_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + fmt(8000)[:-4])
    with pytest.raises(AudioError, match="is damaged or is no sound file"):
        probe(path)


def test_the_file_is_closed_after_a_fault(make: Make) -> None:
    path = make("a.wav", noise(0.1, 16000), 16000)
    with pytest.raises(AudioError), opened(path) as file:
        raise AudioError(path, "anything")
    assert file.closed
