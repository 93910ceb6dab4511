from __future__ import annotations

import struct
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonoformer.audio import probe, read
from sonoformer.audio.riff import Notes, read_notes

from .conftest import Make, chunk, fmt, noise, wav

MOTH = b"Recorded at 19:30:00 12/06/2021 (UTC+5:30) by AudioMoth 24F3190361CA5337 at medium gain"
GUANO = b"GUANO|Version: 1.0\nTimestamp: 2020-01-02T03:04:05-03:00\nNote: caf\xc3\xa9\n"


def bext(date: bytes = b"2019-05-06", time: bytes = b"07:08:09", text: bytes = b"") -> bytes:
    return chunk(b"bext", text.ljust(320, b"\0") + date + time + bytes(264))


def comment(text: bytes) -> bytes:
    other = chunk(b"IART", b"Me\0")
    return chunk(b"LIST", b"INFO" + other + chunk(b"ICMT", text + b"\0"))


@pytest.mark.parametrize(
    ("name", "kind", "subtype"),
    [
        ("a.wav", "WAV", "PCM_U8"),
        ("a.wav", "WAV", "PCM_24"),
        ("a.rf64", "RF64", "PCM_16"),
        ("a.flac", "FLAC", "PCM_16"),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.opus", "OGG", "OPUS"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
        ("a.aiff", "AIFF", "PCM_16"),
    ],
)
def test_facts(make: Make, name: str, kind: str, subtype: str) -> None:
    path = make(name, noise(1.5, 48000, 2), 48000, subtype=subtype)
    info = probe(str(path))
    assert (info.path, info.sample_rate, info.channels) == (path, 48000, 2)
    assert (info.format, info.subtype, info.truncated) == (kind, subtype, False)
    assert info.frames == 72000
    assert info.duration == 1.5
    assert info.recorded_at is None


def at(tmp_path: Path, *chunks: bytes, name: str = "a.wav") -> tuple[datetime | None, object]:
    path = tmp_path / name
    path.write_bytes(wav(*chunks))
    info = probe(path)
    assert info.frames == 8000
    return info.recorded_at, info.utc_offset


def test_the_recorders_time_is_found_after_the_sound(tmp_path: Path) -> None:
    moth = datetime(2021, 6, 12, 19, 30), timedelta(hours=5, minutes=30)
    guano = datetime(2020, 1, 2, 3, 4, 5), timedelta(hours=-3)
    assert at(tmp_path, comment(MOTH)) == moth
    assert at(tmp_path, chunk(b"guan", GUANO)) == guano
    assert at(tmp_path, bext()) == (datetime(2019, 5, 6, 7, 8, 9), None)
    assert at(tmp_path, bext(b"2019:05:06", b"07-08-09"))[0] == datetime(2019, 5, 6, 7, 8, 9)
    assert at(tmp_path, bext(text=MOTH)) == moth
    # Odd chunks are padded, unknown ones stepped over; GUANO before comment before bext.
    assert (
        at(tmp_path, chunk(b"junk", b"abc"), bext(), comment(MOTH), chunk(b"guan", GUANO)) == guano
    )
    assert at(tmp_path, bext(), comment(MOTH)) == moth
    assert at(tmp_path, comment(MOTH), name="20200101_000000.wav") == moth


@pytest.mark.parametrize(
    "chunks",
    [
        (bext(bytes(10), bytes(8)),),
        (bext(b"0000-00-00", b"00:00:00"),),
        (bext(b"1904-01-01", b"00:00:00"),),
        (comment(b"nice frogs"),),
        (comment(b"Recorded at 19:30:00 32/13/2021 (UTC)"),),
        (chunk(b"guan", b"Timestamp: never"),),
        (chunk(b"guan", b"Timestamp: 2020-01-02"),),
        (chunk(b"LIST", b"INFOICMT\xff\xff\xff\x7fabc"),),
        (chunk(b"LIST", b"adtl"),),
        (chunk(b"bext", b"short"),),
        (chunk(b"bext", b"", size=0x7FFFFFFF),),
        (b"tail",),
    ],
)
def test_notes_that_say_nothing_leave_the_name(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    assert at(tmp_path, *chunks) == (None, None)
    named = at(tmp_path, *chunks, name="SITE_20210612_193000.wav")
    assert named == (datetime(2021, 6, 12, 19, 30), None)


def test_notes_before_the_sound(tmp_path: Path) -> None:
    data = chunk(b"data", np.zeros(100, "<i2").tobytes())
    body = b"WAVE" + bext() + fmt(8000) + comment(MOTH) + data
    (tmp_path / "a.wav").write_bytes(chunk(b"RIFF", body))
    assert read_notes(tmp_path / "a.wav") == Notes(MOTH.decode(), "", "2019-05-06 07:08:09", 0)


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "aiff"])
def test_comments_of_other_formats(make: Make, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    with soundfile.SoundFile(path, "w", 44100, 1) as file:
        file.comment = MOTH.decode()
        file.write(noise(0.5, 44100))
    assert probe(path).recorded_at == datetime(2021, 6, 12, 19, 30)


def test_a_wav_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav()[:-6000])
    info = probe(path)
    assert (info.frames, info.truncated) == (5000, True)
    assert read_notes(path).missing == 6000
    assert len(read(path, 8000)) == 5000


def test_a_wav_that_was_streamed_has_no_length_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav().replace(b"data\x80\x3e\0\0", b"data\xff\xff\xff\xff"))
    info = probe(path)
    assert (info.frames, info.truncated) == (8000, False)


def test_rf64_takes_its_length_from_the_long_field(tmp_path: Path) -> None:
    def rf64(length: int) -> bytes:
        data = b"data\xff\xff\xff\xff" + np.arange(8000, dtype="<i2").tobytes()
        sizes = chunk(b"ds64", struct.pack("<QQQI", 0, length, 8000, 0))
        notes = chunk(b"guan", GUANO)
        return b"RF64\xff\xff\xff\xffWAVE" + sizes + fmt(8000) + data + notes

    path = tmp_path / "a.wav"
    path.write_bytes(rf64(16000))
    info = probe(path)
    assert (info.format, info.frames, info.truncated) == ("RF64", 8000, False)
    assert info.recorded_at == datetime(2020, 1, 2, 3, 4, 5)
    path.write_bytes(rf64(2**33))
    assert probe(path).truncated


def test_a_long_file_is_not_read(tmp_path: Path) -> None:
    """A sparse file of 3 GB, whose notes stand behind the sound."""
    size = 3_000_000_000
    path = tmp_path / "a.wav"
    head = chunk(b"RIFF", b"", size + 100) + b"WAVE" + fmt(8000)
    with path.open("wb") as file:
        file.write(head + b"data" + struct.pack("<I", size))
        file.seek(size, 1)
        file.write(comment(MOTH))
    taken: list[int] = []

    class Counting:
        def __init__(self, file: object) -> None:
            self.file = file

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

        def seek(self, *to: int) -> int:
            return self.file.seek(*to)  # type: ignore[attr-defined, no-any-return]

        def read(self, count: int) -> bytes:
            taken.append(count)
            return self.file.read(count)  # type: ignore[attr-defined, no-any-return]

    def counted(name: Path, mode: str) -> Counting:
        return Counting(name.open(mode))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonoformer.audio.riff.open", counted, raising=False)
        info = probe(path)
    assert info.recorded_at == datetime(2021, 6, 12, 19, 30)
    assert info.duration == size / 2 / 8000
    assert 0 < sum(taken) < 1000


def test_a_chain_of_empty_chunks_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(*[chunk(b"none", b"")] * 5000, comment(MOTH)))
    assert read_notes(path).comment == ""
