"""The fixed held-out groups."""

from __future__ import annotations

import polars as pl

from sonoformer.data.catalogue.held import held_in_pool, held_out, held_paths


def table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=("path", "fold", "group"), orient="row")


def test_every_packaged_task_has_held_out_groups() -> None:
    held = held_out()
    assert set(held) == {
        *("character-voices", "instrument-families", "drum-hits"),
        *("russian-phones", "spoken-phrases", "mandarin-tones"),
    }
    assert len(held["drum-hits"]) == 2
    assert len(held["spoken-phrases"]) == len(held["mandarin-tones"]) == 1
    assert "ru_0667" not in held["russian-phones"]
    assert {"ru_0668", "ru_0844"} <= held["russian-phones"]


def test_paths_by_fold_or_group() -> None:
    voices = table([("a.mp3", "1", "bob1"), ("b.mp3", "2", "bob2"), ("c.mp3", "2", "tam1")])
    assert held_paths("character-voices", voices) == {"b.mp3", "c.mp3"}
    phones = table([("x/ru_0667.wav", "3", "ru_0667"), ("x/ru_0668.wav", "4", "ru_0668")])
    assert held_paths("russian-phones", phones) == {"x/ru_0668.wav"}
    assert held_paths("esc10", voices) == set()


def test_numbers_as_folds_and_missing_groups() -> None:
    voices = pl.DataFrame({"path": ["a", "b"], "fold": [1, 2], "group": [None, None]})
    assert held_paths("character-voices", voices) == {"b"}


def test_pool_leaves_whole_groups_out() -> None:
    rows = [
        ("a/ru_0001.wav", "festvox-ru", False),
        ("a/ru_0700.wav", "festvox-ru", True),
        ("b/ru_0700.wav", "klettres-data/ru", False),
        ("gcin/5.ogg", "gcin-voice/5", True),
        ("gcin/3.ogg", "gcin-voice/3", False),
        ("kit/extra.wav", "hydrogen-drumkits/BJA_Pacific", True),
        ("kit/kick.wav", "hydrogen-drumkits/ForzeeStereo", False),
        ("voice/hm.ogg", "hedgewars-data/British", True),
        ("music.ogg", "hedgewars-data", False),
        ("bank/note.wav", "fluid-soundfont-gm", True),
        ("bank/other.wav", "minuet-data", False),
        ("queen/1.mp3", "flight-of-the-amazon-queen/bob", False),
        ("queen/2.mp3", "flight-of-the-amazon-queen/bob", True),
        ("queen/3.mp3", "flight-of-the-amazon-queen", False),
    ]
    pool = pl.DataFrame([r[:2] for r in rows], schema=("path", "group"), orient="row")
    voices = table([("queen/1.mp3", "1", "bob1"), ("queen/2.mp3", "2", "bob2")])
    assert held_in_pool(pool, voices) == {path for path, _, held in rows if held}
