"""Packed sound as a pool: caches and shards, with weights, groups and exclusions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.data.manifest import Manifest
from sonoformer.data.stored import is_stored, open_stored
from sonoformer.errors import UserError

RATE = 8000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    rows = []
    for number in range(6):
        sound = np.random.default_rng(number).normal(0, 0.1, RATE * (1 + 3 * (number == 5)))
        write(root / "field" / f"{number}.wav", sound.astype(np.float32), RATE)
        rows.append((f"field/{number}.wav", f"site{number % 2}", 1.0 + number))
    table = pl.DataFrame(rows, schema=["path", "group", "weight"], orient="row")
    table.write_csv(root / "pool.csv")
    for name, words in {"shards": ["--shards", "--piece-seconds", "2"], "cache": []}.items():
        tokens = ["data", "pack", str(root / "pool.csv"), "--out", str(root / name), *words]
        with pytest.raises(SystemExit) as end:
            main([*tokens, "--sample-rate", str(RATE)])
        assert not end.value.code
    # Neither needs the recordings any more.
    shutil.move(root / "field", root / "away")
    return root


@pytest.mark.parametrize(("name", "items"), [("shards", 7), ("cache", 6)])
def test_packed_sound_is_a_pool_with_groups_and_weights(world: Path, name: str, items: int) -> None:
    assert is_stored(world / name)
    pool, source = open_stored([world / name], RATE)
    table = pool.manifest.table
    assert len(source) == len(table) == items
    assert [Path(source.name(i)).name for i in range(items)] == [
        Path(path).name for path in table["path"]
    ]
    assert (source.lengths / RATE).tolist() == table["duration"].to_list()
    assert table["weight"].sum() == pytest.approx(21)
    assert table.filter(pl.col("path").str.ends_with("3.wav"))["group"].to_list() == ["site1"]
    sound = source.read(items - 1, 0, 100)
    assert sound.dtype == np.int16
    assert len(sound) == 100


def test_several_folders_are_one_pool(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "shards", tmp_path / "copy")
    pool, both = open_stored([world / "shards", world / "cache"], RATE)
    # The one recording that the shards hold in pieces is another item in the cache.
    assert len(pool.manifest) == len(both) == 8
    assert both.shards is None
    pool, same = open_stored([world / "shards", tmp_path / "copy"], RATE)
    assert len(same) == 7
    assert same.shards is not None


def test_excluded_recordings_are_left_out_by_file_group_and_content(
    world: Path, tmp_path: Path
) -> None:
    def left(table: pl.DataFrame) -> set[str]:
        pool, _ = open_stored([world / "shards"], RATE, exclude=[Manifest.of(table, "test")])
        assert pool.held_out > 0
        return {Path(path).name for path in pool.manifest.table["path"]}

    by_file = left(pl.DataFrame({"path": [str(world / "field" / "2.wav")]}))
    assert by_file == {f"{n}.wav" for n in (0, 1, 3, 4, 5)}
    shutil.copy(world / "away" / "4.wav", tmp_path / "renamed.wav")
    by_content = left(pl.DataFrame({"path": [str(tmp_path / "renamed.wav")]}))
    assert by_content == {f"{n}.wav" for n in (0, 1, 2, 3, 5)}
    by_group = left(pl.DataFrame({"path": ["nowhere.wav"], "group": ["site0"]}))
    assert by_group == {f"{n}.wav" for n in (1, 3, 5)}


def test_another_rate_and_nothing_left_are_refused(world: Path) -> None:
    with pytest.raises(UserError, match=r"8000 Hz, and 16000 Hz are wanted"):
        open_stored([world / "shards"], 16000)
    with pytest.raises(UserError, match="no usable recording is left"):
        open_stored([world / "cache"], RATE, min_seconds=60)
