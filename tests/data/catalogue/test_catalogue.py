"""Sets by name, from archive or packages to a manifest that reads and checks clean."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from tests.data.catalogue import banks

from sonoformer.data import catalogue
from sonoformer.data.catalogue import entries, pools
from sonoformer.data.catalogue.download import Archive
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


@lru_cache
def sound(seed: int, seconds: float = 0.1, form: str = "WAV") -> bytes:
    out = io.BytesIO()
    samples = np.random.default_rng(seed).uniform(-0.1, 0.1, int(8000 * seconds))
    soundfile.write(out, samples, 8000, format=form)
    return out.getvalue()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def package(cache: Path, name: str) -> Path:
    """Where an unpacked package lies in the cache."""
    return cache / "packages" / f"{name}_1.0"


def read(name: str) -> Manifest:
    manifest = Manifest.read(catalogue.fetch(name), separator=";")
    assert [f for f in manifest.check() if f.kind == "missing-file"] == []
    return manifest


def esc_archive() -> bytes:
    names = [("1-1-A-0.wav", 1, 0, "dog", True, 11), ("1-1-B-0.wav", 1, 0, "dog", True, 11)]
    names += [("2-7-A-1.wav", 2, 1, "rooster", True, 7), ("3-9-A-5.wav", 3, 5, "cat", False, 9)]
    lines = [f"{n},{f},{t},{c},{e},{s},A" for n, f, t, c, e, s in names]
    meta = "filename,fold,target,category,esc10,src_file,take\n" + "\n".join(lines)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("ESC-50-master/meta/esc50.csv", meta)
        file.writestr("ESC-50-master/pictures/large.png", "picture")
        for number, name in enumerate(names):
            file.writestr(f"ESC-50-master/audio/{name[0]}", sound(number))
    return out.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, site, name: str, data: bytes, ending: str) -> None:
    site.content[f"{name}{ending}"] = data
    for key, entry in list(entries.ENTRIES.items()):
        if name in (key, entry.audio_from):
            archive = Archive(site.url(f"{name}{ending}"))
            monkeypatch.setitem(entries.ENTRIES, key, replace(entry, archive=archive))


def test_esc50_and_esc10_share_one_download(
    cache: Path,
    site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(monkeypatch, site, "esc50", esc_archive(), ".zip")
    assert catalogue.local("esc10") is None
    ten = read("esc10")
    assert (len(ten), ten.classes) == (3, ("dog", "rooster"))
    fifty = read("esc50")
    assert (len(fifty), fifty.classes) == (4, ("cat", "dog", "rooster"))
    assert fifty.values("fold") == ["1", "2", "3"]
    assert fifty.values("group") == ["7", "9", "11"]
    assert len(site.asked) == 1
    assert list(cache.rglob("*.png")) == []
    assert catalogue.local("esc10") == cache / "esc10.csv"


def test_a_set_that_lost_a_file_is_not_here(
    cache: Path,
    site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(monkeypatch, site, "esc50", esc_archive(), ".zip")
    Path(read("esc50").paths[-1]).unlink()
    assert catalogue.local("esc50") is None


def test_fsdd_speakers_are_folds(cache: Path, site, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number, name in enumerate(("0_ann_0", "0_ann_12", "7_bob_4")):
            file.writestr(f"free-spoken-digit-dataset-master/recordings/{name}.wav", sound(number))
    publish(monkeypatch, site, "fsdd", out.getvalue(), ".zip")
    table = read("fsdd").table.sort("path")
    assert table["labels"].to_list() == [["0"], ["0"], ["7"]]
    assert table["fold"].to_list() == table["group"].to_list() == ["ann", "ann", "bob"]
    assert table["official_split"].to_list() == ["test", "train", "test"]


def test_speech_commands_keep_the_authors_split(tmp_path: Path) -> None:
    names = ("yes/s1_nohash_0.wav", "yes/s2_nohash_0.wav", "no/s1_nohash_1.wav")
    for number, name in enumerate((*names, "_background_noise_/hum.wav")):
        put(tmp_path / "top" / name, sound(number))
    put(tmp_path / "top" / "validation_list.txt", b"no/s1_nohash_1.wav\n")
    put(tmp_path / "top" / "testing_list.txt", b"yes/s2_nohash_0.wav\n")
    table = entries.public.speech_commands(tmp_path).sort("path")
    assert table["labels"].to_list() == [["no"], ["yes"], ["yes"]]
    assert table["split"].to_list() == ["validation", "train", "test"]
    assert table["group"].to_list() == ["s1", "s1", "s2"]


def test_an_archive_of_another_layout_is_a_sentence(
    cache: Path,
    site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("x/README.md", "moved")
    publish(monkeypatch, site, "fsdd", out.getvalue(), ".zip")
    with pytest.raises(UserError, match=r"no recordings; its layout has changed"):
        catalogue.fetch("fsdd")


def test_character_voices_are_tested_in_other_dialogues(cache: Path) -> None:
    lines = {}
    for key in range(1, 7):
        for line in range(30):
            lines[f"{key:02d}{line:04X}P1"] = sound(line % 3, form="MP3")
        lines[f"{key:02d}0001J1"] = sound(key, form="MP3")
    dialogues = {"SPARKY1": 1, "SPARKY2": 2, "BOB1": 3, "BOB2": 4, "APE": 5, "IAN1": 6}
    folder = package(cache, "flight-of-the-amazon-queen")
    banks.queen(folder / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c", lines, dialogues)
    manifest = read("character-voices")
    assert manifest.classes == ("bob", "sparky")
    per_fold = manifest.table.explode("labels").group_by("labels", "fold").len()
    assert per_fold.height == 4
    assert set(per_fold["len"]) == {30}
    assert manifest.table.select(pl.col("fold").n_unique().over("group").max()).item() == 1


def test_instrument_families_leave_unclear_and_synthetic_notes_out(cache: Path) -> None:
    notes = [(f"n{i}", banks.ramp(800, 3 + i), 8000, 69, 1) for i in range(5)]
    presets = [(0, 40, [0]), (0, 41, [0]), (0, 73, [1]), (0, 0, [2]), (0, 41, [2]), (0, 81, [3])]
    for name in ("fluid-soundfont-gm", "minuet-data"):
        banks.soundfont(package(cache, name) / "usr/share/b.sf2", notes, [*presets, (128, 0, [4])])
    midi = package(cache, "freepats") / "usr/share/midi/freepats"
    banks.patch(
        midi / "Tone_000" / "073_Flute.pat", [(banks.ramp(800).tobytes(), 1, 8000, 440_000)]
    )
    banks.patch(midi / "Drum_000" / "035_Kick_1.pat", [(banks.ramp(80).tobytes(), 1, 8000, 1)])
    put(midi / "Tone_000" / "074_Broken.pat", b"GF1")
    manifest = read("instrument-families")
    rows = set(manifest.table.explode("labels").select("labels", "fold").iter_rows())
    soundfonts = {
        (f, b) for f in ("strings", "pipe") for b in ("fluid-soundfont-gm", "minuet-data")
    }
    assert rows == soundfonts | {("pipe", "freepats")}
    assert set(manifest.table["hz"].cast(pl.Float64)) == {440.0}


def test_drum_hits_are_tested_on_other_kits(cache: Path) -> None:
    folder = package(cache, "hydrogen-drumkits") / "usr/share/hydrogen/data/drumkits"
    for number, kit in enumerate(("Kit A", "Kit B")):
        listed = [("Kick", "k.wav"), ("Snare", "../../../escape.wav"), ("Tom", "gone.wav")]
        listed += [("Kick", "k.wav"), ("Triangle", "t.wav")]
        rows = "".join(
            f"<instrument><name>{n}</name><filename>{f}</filename></instrument>" for n, f in listed
        )
        put(folder / kit / "drumkit.xml", f"<kit>{rows}</kit>".encode())
        put(folder / kit / "k.wav", sound(number))
        put(folder / kit / "t.wav", sound(9))
    put(folder.parent / "escape.wav", sound(5))
    manifest = read("drum-hits")
    assert manifest.table["labels"].to_list() == [["kick"], ["kick"]]
    assert manifest.values("fold") == ["Kit A", "Kit B"]


def test_phones_lie_one_behind_the_other(cache: Path) -> None:
    voice = package(cache, "festvox-ru") / "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
    for number in (1, 2, 6):
        put(voice / "lab" / f"ru_000{number}.lab", b"#\n0.04 125 pau\n0.07 125 a\n0.07 125 b\n")
        put(voice / "wav" / f"ru_000{number}.wav", sound(number))
    manifest = read("russian-phones")
    first = manifest.table.filter(pl.col("group") == "ru_0001")
    assert first.select("start", "end").rows() == [(0.0, 0.04), (0.04, 0.07)]
    assert first["labels"].to_list() == [["pau"], ["a"]]
    folds = manifest.table.select("group", "fold").unique().sort("group")
    assert folds["fold"].to_list() == ["2", "3", "2"]
    assert manifest.check(probe=True) == []


def test_tones_are_tested_on_the_other_talker(cache: Path) -> None:
    folder = package(cache, "gcin-voice") / "usr/share/gcin-voice/ogg"
    for number, place in enumerate(("ㄅㄚ/3", "ㄅㄚ1/3", "ㄅㄚ2/5", "ㄅㄚ4/3")):
        put(folder / f"{place}.ogg", sound(number, form="OGG"))
    table = read("mandarin-tones").table.sort("path")
    assert table["labels"].to_list() == [["1"], ["2"], ["4"]]
    assert table["fold"].to_list() == ["man", "woman", "man"]
    assert table["syllable"].to_list() == ["ㄅㄚ"] * 3


def test_phrases_need_five_voices(cache: Path) -> None:
    voices = package(cache, "hedgewars-data") / "usr/share/games/hedgewars/Data/Sounds/voices"
    for number, voice in enumerate(
        ("British", "Classic", "Pirate", "Robot", "Surfer", "Default_pl")
    ):
        put(voices / voice / "Hello.ogg", sound(number, form="OGG"))
        if number < 4:
            put(voices / voice / "Drat.ogg", sound(10 + number, form="OGG"))
    manifest = read("spoken-phrases")
    assert manifest.classes == ("hello",)
    assert len(manifest.values("fold")) == len(manifest) == 5


def test_a_pool_drops_copies_and_bad_files_and_balances_packages(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        entries.ENTRIES,
        "debian-small",
        replace(entries.ENTRIES["debian-small"], packages=("gcin-voice", "qabcs-data")),
    )
    voice = package(cache, "gcin-voice") / "usr/share/gcin-voice/ogg"
    for number in range(4):
        put(voice / f"x{number}" / "3.ogg", sound(number, 0.4, "OGG"))
    words = package(cache, "qabcs-data") / "usr/share/qabcs/abcs"
    cat = sound(7, 0.1, "OGG")
    put(words / "en/sounds/words/cat.ogg", cat)
    put(words / "de/sounds/words/cat.ogg", sound(8, 0.1, "OGG"))
    put(words / "all/noises/copy.ogg", cat)
    put(words / "all/noises/broken.ogg", b"OggS but no more")
    said: list[str] = []
    path = catalogue.fetch("debian-small", lambda what, *_: said.append(what))
    table = Manifest.read(path).table
    assert Counter(table["group"]) == {"gcin-voice/3": 4, "qabcs-data/en": 1}
    assert not Manifest.read(path).labelled
    assert any("5 recordings" in s and "1 unusable" in s and "1 exact copies" in s for s in said)
    weights = dict(table.group_by("package").agg(pl.col("weight").sum()).iter_rows())
    assert weights["gcin-voice"] / weights["qabcs-data"] == pytest.approx(4.0, rel=1e-3)


def test_an_unreachable_source_names_the_alternatives(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"no apt-get.*other sources: esc50, esc10, fsdd, speech"):
        catalogue.fetch("mandarin-tones")
    monkeypatch.setattr("sonoformer.data.catalogue.download.ATTEMPTS", 1)
    monkeypatch.setitem(
        entries.ENTRIES,
        "fsdd",
        replace(entries.ENTRIES["fsdd"], archive=Archive("http://127.0.0.1:9/x.zip")),
    )
    with pytest.raises(UserError, match=r"cannot be reached.*character-voices") as caught:
        catalogue.fetch("fsdd")
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SONOFORMER_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="SONOFORMER_CACHE"):
        catalogue.fetch("mandarin-tones")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no such set.*Did you mean 'esc50'"):
        catalogue.entry("esc-50")


def test_every_entry_is_complete() -> None:
    for name, entry in catalogue.ENTRIES.items():
        assert entry.name == name
        assert (entry.archive is None) == bool(entry.packages)
        assert entry.clips > 0
        assert entry.megabytes > 0
        assert all((entry.title, entry.task, entry.licence, entry.citation, entry.homepage))
        assert (entry.build is None) == name.startswith(("debian-", "shipped-"))
    assert {*pools.POOL, *pools.MUSIC} == set(entries.PACKAGES)
