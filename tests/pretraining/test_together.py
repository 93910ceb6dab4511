"""Two processes learn what one does: pretraining shared by gloo, stopped, and resumed by others."""

from __future__ import annotations

import csv
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from tests.together import run_together

from sonoformer.audio import write
from sonoformer.cli.main import main

OPTIONS = [
    "--size", "micro", "--batch-size", "8", "--precision", "fp32", "--workers", "0",
    "--log-every", "1", "--validate-every", "10", "--holdout", "0.2", "--crop", "1",
    "--device", "cpu",
    "--optimiser.lr", "0.0005", "--schedule.warmup-steps", "5", "--optimiser.clip", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of all lengths, some of them so short that no token of theirs can be hidden."""
    folder = tmp_path_factory.mktemp("field")
    rng = np.random.default_rng(0)
    for number in range(30):
        seconds = (0.21, 0.6, 1.0, 1.4)[number % 4]
        tone = np.sin(2 * np.pi * 200 * (1 + number) * np.arange(round(seconds * 16000)) / 16000)
        sound = 0.2 * tone + rng.normal(0, 0.05, len(tone))
        write(folder / f"{number:02d}.wav", sound.astype(np.float32), 16000)
    return folder


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoformer.training.report.draw", lambda rows, path: None)


def pretrain(field: Path, out: Path, *words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pretrain", str(field), "--out", str(out), *OPTIONS, *words])
    assert not end.value.code


def pretrain_together(
    world: int, field: Path, out: Path, *words: str, **options: Any
) -> tuple[list[int], str]:
    tokens = ["pretrain", str(field), "--out", str(out), *OPTIONS, *words]
    return run_together(world, "sonoformer.cli.main:main", tokens, **options)


def curve(folder: Path, column: str = "train/loss") -> np.ndarray:
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return np.array([float(row[column]) for row in csv.DictReader(file) if row[column]])


def test_two_processes_learn_what_one_does(field: Path, tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    pretrain(field, alone, "--steps", "20")
    codes, said = pretrain_together(2, field, both, "--steps", "20")
    assert codes == [0, 0], said
    assert len(curve(both)) == 20
    for column in ("train/loss", "train/mse", "valid/loss", "valid/mse"):
        np.testing.assert_allclose(curve(both, column), curve(alone, column), rtol=1e-5)
    # Of one step only, and so less smooth than what was learnt: a norm that has fallen from 240 to
    # 1 is rounding to a part in a thousand.
    norms = curve(both, "train/grad_norm"), curve(alone, "train/grad_norm")
    np.testing.assert_allclose(*norms, rtol=2e-3)
    ours, theirs = (load_file(f / "model" / "model.safetensors") for f in (alone, both))
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-5)
    # One of them alone wrote the run.
    assert (both / "log.txt").read_text().count("pretrain finished") == 1


def test_a_run_over_shards_is_resumed_by_another_number_of_processes(
    field: Path, tmp_path: Path
) -> None:
    """Stopped amid a shard by SIGTERM to both, continued by one: as if it was never stopped."""
    shards, whole, torn = (tmp_path / name for name in ("shards", "whole", "torn"))
    packing = ["data", "pack", str(field), "--out", str(shards), "--shards"]
    with pytest.raises(SystemExit) as end:
        main([*packing, "--shard-megabytes", "0.05"])
    assert not end.value.code
    assert len(list(shards.glob("*.tar"))) > 5
    words = ["--steps", "12", "--checkpoint-minutes", "0"]
    pretrain(shards, whole, *words)

    def stop(ids: list[int]) -> None:
        while "train/loss" not in _read(torn / "metrics.csv") or _steps(torn) < 3:
            time.sleep(0.02)
        for number in ids:
            os.kill(number, signal.SIGTERM)

    codes, said = pretrain_together(2, shards, torn, *words, while_running=stop)
    assert codes == [143, 143], said
    assert "everything is saved" in said
    assert 3 <= _steps(torn) < 12
    pretrain(shards, torn, *words, "--resume")
    np.testing.assert_allclose(curve(torn), curve(whole), rtol=1e-5)
    assert len(curve(torn)) == 12


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _steps(folder: Path) -> int:
    return len(_read(folder / "metrics.csv").splitlines()) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "",
        "--objective mae",
        "--objective m2d",
        "--objective eat",
        # What is alien in a clip comes from another clip of the same process's share.
        "--objective asit --asit.corruption.alien.probability 0",
        "--accumulate 2 --optimiser.clip-by tensor",
    ],
)
def test_every_objective_learns_alike_by_both_strategies(
    field: Path, tmp_path: Path, words: str
) -> None:
    alone = tmp_path / "alone"
    pretrain(field, alone, "--steps", "6", *words.split())
    for strategy in ("ddp", "fsdp"):
        more = ["--steps", "6", "--strategy", strategy, *words.split()]
        codes, said = pretrain_together(2, field, tmp_path / strategy, *more)
        assert codes == [0, 0], said
        for column in ("train/loss", "valid/loss"):
            two, one = curve(tmp_path / strategy, column), curve(alone, column)
            np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.slow
def test_a_run_by_fsdp_is_resumed_by_one_process_and_back(field: Path, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = ["--checkpoint-minutes", "0"]
    pretrain(field, whole, "--steps", "9", *words, "--schedule.name", "constant")
    words += ["--schedule.name", "constant"]
    codes, said = pretrain_together(2, field, torn, "--steps", "3", *words, "--strategy", "fsdp")
    assert codes == [0, 0], said
    pretrain(field, torn, "--steps", "6", *words, "--resume")
    more = ["--steps", "9", *words, "--strategy", "fsdp", "--resume"]
    codes, said = pretrain_together(2, field, torn, *more)
    assert codes == [0, 0], said
    np.testing.assert_allclose(curve(torn), curve(whole), rtol=1e-5)


@pytest.mark.slow
def test_when_a_process_is_killed_the_others_end_and_another_number_resumes(
    field: Path, tmp_path: Path
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = ["--steps", "12", "--checkpoint-minutes", "0"]
    pretrain(field, whole, *words)

    def kill(ids: list[int]) -> None:
        while _steps(torn) < 3:
            time.sleep(0.02)
        os.kill(ids[1], signal.SIGKILL)

    codes, said = pretrain_together(2, field, torn, *words, while_running=kill)
    assert codes == [2, -9], said
    assert "another process of the run has ended" in said
    assert "--resume" in said
    assert "Traceback" not in said
    codes, said = pretrain_together(4, field, torn, *words, "--resume")
    assert codes == [0] * 4, said
    np.testing.assert_allclose(curve(torn), curve(whole), rtol=1e-5)


def test_a_mistake_is_told_once_and_all_end(field: Path, tmp_path: Path) -> None:
    codes, said = pretrain_together(3, field, tmp_path / "out", "--steps", "2")
    assert codes == [2, 2, 2]
    assert "batch_size: 8 clips cannot be shared evenly by 3 processes" in said
    codes, said = pretrain_together(2, field, tmp_path / "none", "--resume")
    assert codes == [2, 2]
    assert said.count("holds no run to resume") == 1
