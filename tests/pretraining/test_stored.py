"""Pretraining from packed sound: caches and shards, weighted, damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.data.shard_index import read_index, shard_path
from sonoformer.errors import UserError
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.pretrain import Prepared, prepare
from sonoformer.run import Run
from sonoformer.training.config import TrainConfig

CONFIG = PretrainConfig(
    size="micro", crop=1.0, holdout=0.0, weights="manifest", train=TrainConfig(batch_size=4)
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    rows = []
    for number in range(16):
        seconds = 1.0 if number else 9.0
        sound = np.random.default_rng(number).normal(0, 0.1, round(16000 * seconds))
        write(root / "field" / f"{number}.wav", sound.astype(np.float32), 16000)
        rows.append((f"field/{number}.wav", "ab"[number % 2], 4.0 if number == 0 else 1.0))
    table = pl.DataFrame(rows, schema=["path", "group", "weight"], orient="row")
    table.write_csv(root / "pool.csv")
    called(["data", "pack", f"{root}/pool.csv", "--out", f"{root}/cache"])
    words = ["--shards", "--shard-megabytes", "0.1", "--piece-seconds", "3"]
    called(["data", "pack", f"{root}/pool.csv", "--out", f"{root}/shards", *words])
    return root


def called(tokens: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(tokens)
    assert not end.value.code


def ready(source: Path, out: Path, config: PretrainConfig = CONFIG) -> Prepared:
    with Run.start(out, "pretrain", config, 0) as run:
        run.echo = None
        return prepare([source], config, run, seed=0)


def heard(prepared: Prepared, epochs: int = 400) -> dict[str, float]:
    """How often each recording comes, in an epoch."""
    order, source = prepared.train.order, prepared.train.dataset.source
    rows = np.concatenate([order.epoch(epoch) for epoch in range(epochs)])
    names = [Path(source.name(int(row))).name for row in rows]
    return {name: names.count(name) / len(names) for name in set(names)}


@pytest.mark.parametrize("name", ["pool.csv", "cache", "shards"])
def test_weights_are_kept_whatever_holds_the_sound(world: Path, tmp_path: Path, name: str) -> None:
    prepared = ready(world / name, tmp_path / "run")
    # The long recording counts by its weight, and not by its nine clips or three pieces.
    shares = heard(prepared)
    assert len(shares) == 16
    for recording, share in shares.items():
        assert share == pytest.approx((4 if recording == "0.wav" else 1) / 19, rel=0.25)
    assert (prepared.train.order.lanes is not None) == (name == "shards")


def test_weights_that_are_not_there_are_asked_for(world: Path, tmp_path: Path) -> None:
    called(["data", "pack", f"{world}/field", "--shards", "--out", f"{tmp_path}/plain"])
    with pytest.raises(UserError, match="no column weight"):
        ready(tmp_path / "plain", tmp_path / "run")


def test_packed_sound_beside_recordings_is_refused(world: Path, tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", "pretrain", CONFIG, 0) as run:
        run.echo = None
        with pytest.raises(UserError, match="pack those too"):
            prepare([world / "shards", world / "field"], CONFIG, run, seed=0)


def test_damaged_shards_are_listed_and_replaced(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoformer.training.report.draw", lambda rows, path: None)
    shards = tmp_path / "shards"
    called(["data", "pack", f"{world}/pool.csv", "--shards", "--shard-megabytes", "0.1",
            "--out", str(shards)])  # fmt: skip
    index = read_index(shards)
    with open(shard_path(shards, 0), "r+b") as file:
        file.truncate(file.seek(0, 2) // 2)
    hurt = index.filter(pl.col("shard") == 2).row(0, named=True)
    with open(shard_path(shards, 2), "r+b") as file:
        file.seek(hurt["offset"] + hurt["bytes"] - 50)
        file.write(bytes(50))
    words = ["--size", "micro", "--steps", "4", "--batch-size", "8", "--workers", "0"]
    words += ["--crop", "1", "--statistics", "keep", "--device", "cpu", "--holdout", "0"]
    called(["pretrain", str(shards), "--out", f"{tmp_path}/run", *words])
    with open(tmp_path / "run" / "problems.csv", encoding="utf-8") as file:
        listed = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert "is cut short" in listed[str(shard_path(shards, 0))]
    assert "shard-00002.tar is damaged" in listed[hurt["path"]]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
