"""Readers of packed sounds: SoundFont, GUS patch, Amazon Queen, Hydrogen kit."""

from __future__ import annotations

import contextlib
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.catalogue import banks

from sonoformer.data.catalogue.convert import convert_pk3
from sonoformer.data.catalogue.drumkit import CLASSES, drum_class, read_kit
from sonoformer.data.catalogue.gus import read_patch
from sonoformer.data.catalogue.pcm import safe_name, write_pcm
from sonoformer.data.catalogue.queen import read_lines
from sonoformer.data.catalogue.sf2 import read_bank
from sonoformer.errors import UserError

MONO, RIGHT, LEFT, ROM = 1, 2, 4, 0x8001


def test_soundfont_samples_and_who_plays_them(tmp_path: Path) -> None:
    tones = [banks.ramp(100 + 10 * i, 3 + i) for i in range(6)]
    kinds = (MONO, LEFT, RIGHT, ROM, MONO, MONO)
    rows = [(f"tone {i}", tones[i], 8000 + i, 60 + i, kinds[i]) for i in range(6)]
    path = banks.soundfont(
        tmp_path / "b.sf2",
        rows,
        [(0, 40, [0, 1]), (0, 41, [1, 2]), (128, 0, [4]), (8, 3, [5])],
    )
    found = read_bank(path)
    assert [(s.name, s.sample_rate, s.key) for s in found] == [
        ("tone 0", 8000, 60),
        ("tone 1", 8001, 61),
        ("tone 4", 8004, 64),
        ("tone 5", 8005, 65),
    ]
    assert [s.programs for s in found] == [(40,), (40, 41), (), ()]
    assert [s.percussion for s in found] == [False, False, True, False]
    for sample, index in zip(found, (0, 1, 4, 5), strict=True):
        np.testing.assert_array_equal(sample.samples, tones[index])


@settings(max_examples=30, deadline=None)
@given(
    cut=st.integers(0, 1500), flips=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)))
)
def test_a_damaged_soundfont_is_a_sentence_or_fewer_samples(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list
) -> None:
    path = tmp_path_factory.mktemp("sf2") / "b.sf2"
    banks.soundfont(path, [("a", banks.ramp(50), 8000, 60, MONO)], [(0, 1, [0])])
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data[: max(0, len(data) - cut)])
    with contextlib.suppress(UserError):
        assert len(read_bank(path)) <= 1


def test_gus_patches_in_all_four_codings(tmp_path: Path) -> None:
    wanted = banks.ramp(64)
    eight = (wanted // 256).astype(np.int8)
    path = banks.patch(
        tmp_path / "p.pat",
        [
            (wanted.tobytes(), 1, 22050, 440_000),
            ((wanted.view("<u2") ^ 0x8000).tobytes(), 3, 22050, 440_000),
            (eight.tobytes(), 0, 11025, 220_000),
            ((eight.view(np.uint8) ^ 0x80).tobytes(), 2, 11025, 220_000),
        ],
    )
    found = read_patch(path)
    assert [(p.sample_rate, p.root_hz) for p in found] == [(22050, 440.0)] * 2 + [
        (11025, 220.0)
    ] * 2
    for patch, expected in zip(found, [wanted, wanted, eight * 256.0, eight * 256.0], strict=True):
        np.testing.assert_array_equal(patch.samples, expected)
        assert patch.samples.dtype == np.int16


def test_a_patch_cut_short_is_a_sentence(tmp_path: Path) -> None:
    path = banks.patch(tmp_path / "p.pat", [(bytes(100), 1, 8000, 440_000)])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="cut short"):
        read_patch(path)
    path.write_bytes(b"RIFF")
    with pytest.raises(UserError, match="not a GUS patch"):
        read_patch(path)


def test_queen_lines_know_who_speaks_where(tmp_path: Path) -> None:
    lines = {"020001P2": b"one", "02001AJ1": b"two", "190003P1": b"three", "JOE00011": b"four"}
    lines |= {"C12A_011": b"five", "77SSSSJ1": b"six"}
    path = banks.queen(tmp_path / "queen.1c", lines, {"SPARKY3": 2, "APE": 19})
    found = {line.name: (line.data, line.character, line.dialogue) for line in read_lines(path)}
    assert found == {
        "020001P2": (b"one", "sparky", "sparky3"),
        "02001AJ1": (b"two", "joe", "sparky3"),
        "190003P1": (b"three", "ape", "ape"),
        "JOE00011": (b"four", "joe", None),
        "C12A_011": (b"five", None, None),
        "77SSSSJ1": (b"six", None, None),
    }
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="cut short"):
        read_lines(path)
    path.write_bytes(b"QTBLJEL10\0\0\0\0")
    with pytest.raises(UserError, match="not the compressed resource file"):
        read_lines(path)


KIT = """<?xml version="1.0"?>
<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit"><name>Kit &amp; more</name>
<instrumentList><instrument><id>0</id><name>Kick</name>
<layer><filename>k1.wav</filename></layer><layer><filename>k2.wav</filename></layer></instrument>
<instrument><name>Hat Op</name><filename>h.flac</filename></instrument>
<instrument><name>Nothing</name></instrument></instrumentList></drumkit_info>"""


def test_drum_kits_list_files_with_their_instruments(tmp_path: Path) -> None:
    path = tmp_path / "drumkit.xml"
    path.write_text(KIT)
    assert read_kit(path) == [("k1.wav", "Kick"), ("k2.wav", "Kick"), ("h.flac", "Hat Op")]


def test_a_kit_that_defines_entities_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "drumkit.xml"
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
    path.write_text(KIT.replace("<drumkit_info", f"{bomb}<drumkit_info"))
    with pytest.raises(UserError, match="document type definition"):
        read_kit(path)
    path.write_text(KIT[:200])
    with pytest.raises(UserError, match="cannot be read as XML"):
        read_kit(path)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Closed HH", "hihat-closed"),
        ("f#3 - hi-hat closed", "hihat-closed"),
        ("Pedal HH", "hihat-pedal"),
        ("VariBreaks Hat 1 Pd", "hihat-pedal"),
        ("Sabian Hat Semi-Open", "hihat-open"),
        ("BassDrum", "kick"),
        ("Snare Rimshot (Pearl)", "snare"),
        ("Snare Roll", None),
        ("Pearl Side Stick", "rim"),
        ("Floor Tom", "tom"),
        ("Hand Clap", "clap"),
        ("Ride Bell (Zagrebin)", "ride"),
        ("Crash/Ride (Paiste)", None),
        ("Zildjian Splash Choke", "crash"),
        ("Cowbell", None),
    ],
)
def test_drum_names(name: str, label: str | None) -> None:
    assert drum_class(name) == label
    assert label is None or label in dict(CLASSES)


def test_samples_are_written_bit_for_bit(tmp_path: Path) -> None:
    samples = banks.ramp(1000)
    write_pcm(tmp_path / "a.wav", samples, 11025)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (11025, 1)
        assert file.readframes(1000) == samples.tobytes()


def test_names_become_file_names() -> None:
    assert safe_name("Violin B7(L)/x ") == "Violin_B7_L__x"
    assert safe_name("../..") == "unnamed"


def test_sounds_of_a_games_zip_archive(cache: Path, tmp_path: Path) -> None:
    package = tmp_path / "game-music_1.0-1"
    (package / "data").mkdir(parents=True)
    with zipfile.ZipFile(package / "data" / "music.pk3", "w") as archive:
        archive.writestr("music/Theme One.ogg", b"one")
        archive.writestr("../../out.OGG", b"two")
        archive.writestr("music/readme.txt", b"no sound")
    table = convert_pk3(package)
    assert table["name"].to_list() == ["Theme One", "out"]
    paths = [Path(path) for path in table["path"]]
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert {path.parent for path in paths} == {cache / "converted" / package.name}
