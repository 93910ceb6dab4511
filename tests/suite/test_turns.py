"""Sets, protocols and copies."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.suite.sets import choose, find_set, not_here
from sonoformer.suite.tasks import SUITE
from sonoformer.suite.turns import turns_of


def read(name: str, data: Path) -> Manifest:
    manifest = find_set(SUITE[name], data)
    assert manifest is not None
    return manifest


def groups(manifest: Manifest, rows: object) -> set[str]:
    return set(manifest.table["group"].gather(rows).to_list())


def test_fixed_tests_the_held_out_kits_and_nothing_else(data: Path) -> None:
    manifest = read("drum-hits", data)
    (turn,) = turns_of(SUITE["drum-hits"], manifest, "fixed")
    assert groups(manifest, turn.test) == {"BJA_Pacific", "The Black Pearl 1.0"}
    assert groups(manifest, turn.train) == {"Audiophob", "VariBreaks"}
    names = [Path(manifest.paths[row]).name for row in turn.train]
    assert "copy.wav" not in names
    assert turn.copies == 1


def test_folds_test_every_clip_once_and_copies_never_cross(data: Path) -> None:
    manifest = read("drum-hits", data)
    turns = turns_of(SUITE["drum-hits"], manifest, "folds")
    assert [turn.name for turn in turns] == sorted(
        ["Audiophob", "BJA_Pacific", "The Black Pearl 1.0", "VariBreaks"]
    )
    assert sorted(row for turn in turns for row in turn.test) == list(range(len(manifest)))
    assert {turn.name: turn.copies for turn in turns} == {
        "Audiophob": 1, "BJA_Pacific": 1, "The Black Pearl 1.0": 0, "VariBreaks": 0,
    }  # fmt: skip


def test_digits_by_speaker_and_speakers_by_digit(data: Path) -> None:
    manifest = read("fsdd-digits", data)
    assert len(manifest.classes) == 10
    turns = turns_of(SUITE["fsdd-digits"], manifest, "fixed")
    assert [turn.name for turn in turns] == ["ann", "bob"]
    manifest = read("fsdd-speakers", data)
    assert manifest.classes == ("ann", "bob")
    (turn,) = turns_of(SUITE["fsdd-speakers"], manifest, "folds")
    assert set(manifest.table["digit"].gather(turn.test)) == set("56789")
    assert set(manifest.table["digit"].gather(turn.train)) == set("01234")


def test_a_table_with_a_split_is_a_task_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "path,label,split\na.wav,x,train\nb.wav,y,train\nc.wav,x,validation\nd.wav,x,test\n"
    )
    (task,) = choose((str(path),))
    manifest = find_set(task, None)
    assert manifest is not None
    (turn,) = turns_of(task, manifest, "fixed")
    assert (turn.train.tolist(), turn.test.tolist()) == ([0, 1], [3])


def test_nothing_to_test_is_said(tmp_path: Path) -> None:
    table = pl.DataFrame({"path": ["a", "b"], "labels": [["x"], ["y"]]})
    (task,) = choose(("drum-hits",))
    with pytest.raises(UserError, match="neither a fold nor a split"):
        turns_of(task, Manifest.of(table, "mine"), "folds")
    one = table.with_columns(fold=pl.lit("1"))
    with pytest.raises(UserError, match="at least two folds"):
        turns_of(task, Manifest.of(one, "mine"), "folds")


def test_unknown_tasks_and_absent_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONOFORMER_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="drum-hits"):
        choose(("drum-hit",))
    assert [task.name for task in choose(())] == list(SUITE)
    assert find_set(SUITE["esc10"], tmp_path) is None
    assert "sonoformer data fetch esc10" in not_here(SUITE["esc10"])
