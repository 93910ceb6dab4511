"""Two processes learn what one does: pretraining shared by gloo, stopped, and resumed by others."""

from __future__ import annotations

import csv
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
    "--log-every", "1", "--validate-every", "10", "--holdout", "0.2", "--crop", "1", "--device", "cpu",
    "--optimiser.lr", "0.001", "--schedule.warmup-steps", "5", "--optimiser.clip", "1",
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
    for column in ("train/loss", "train/accuracy", "train/grad_norm", "valid/loss", "valid/mse"):
        one, two = curve(alone, column), curve(both, column)
        assert len(one) == len(two) == (20 if column.startswith("train") else len(one))
        np.testing.assert_allclose(two, one, rtol=1e-5)
    ours, theirs = (load_file(f / "model" / "model.safetensors") for f in (alone, both))
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-5)
    # One of them alone wrote the run.
    assert (both / "log.txt").read_text().count("pretrain finished") == 1
