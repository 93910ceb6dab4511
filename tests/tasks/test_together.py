"""Fine-tuning in two processes: unknown labels, an encoder that joins later, folds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.together import run_together

from sonoformer.audio import write
from sonoformer.cli.main import main

pytestmark = pytest.mark.slow
OPTIONS = [
    "--size", "micro", "--batch-size", "8", "--precision", "fp32", "--workers", "0",
    "--log-every", "1", "--device", "cpu", "--resamples", "100", "--seconds", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; of every third clip only one class is known."""
    root = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows = ["path,labels,negatives,split,fold"]
    for number in range(36):
        tone = np.sin(2 * np.pi * (400 if number % 2 else 1200) * np.arange(12000) / 16000)
        wave = 0.2 * tone + rng.normal(0, 0.05, len(tone))
        write(root / f"{number}.wav", wave.astype(np.float32), 16000)
        name, other = ("low", "high") if number % 2 else ("high", "low")
        part = ("train", "train", "train", "validation", "test", "train")[number // 6]
        rows.append(f"{number}.wav,{name},{'' if number % 3 else other},{part},{number // 12}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root / "labels.csv"


def curve(folder: Path, column: str) -> np.ndarray:
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return np.array([float(row[column]) for row in csv.DictReader(file) if row[column]])


@pytest.mark.parametrize(
    ("task", "strategy", "words"),
    [
        ("single", "fsdp", "--freeze-epochs 1"),
        ("multi", "ddp", "--freeze-epochs 1"),
        ("single", "ddp", "--weights partial --blocks 1"),
        ("single", "ddp", "--head weighted"),
    ],
)
def test_two_processes_learn_what_one_does(
    labels: Path, tmp_path: Path, task: str, strategy: str, words: str
) -> None:
    tokens = [
        "finetune",
        str(labels),
        *OPTIONS,
        "--steps",
        "12",
        "--task",
        task,
        "--protocol",
        "split",
    ]
    tokens += words.split()
    with pytest.raises(SystemExit) as end:
        main([*tokens, "--out", str(tmp_path / "alone")])
    assert not end.value.code
    tokens += ["--out", str(tmp_path / "both"), "--strategy", strategy]
    codes, said = run_together(2, "sonoformer.cli.main:main", tokens)
    assert codes == [0, 0], said
    for column in ("train/loss", "valid/loss"):
        one, two = (curve(tmp_path / name, column) for name in ("alone", "both"))
        np.testing.assert_allclose(two, one, rtol=1e-5)
    scores = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("alone", "both")]
    assert scores[0]["steps"] == scores[1]["steps"] == 12
    assert (tmp_path / "both" / "report.html").exists()
    assert said.count("test: ") == 1


def test_folds_are_trained_and_finished_ones_found_again(labels: Path, tmp_path: Path) -> None:
    words = ["finetune", str(labels), *OPTIONS, "--protocol", "folds", "--out", str(tmp_path / "o")]
    words += ["--steps", "4", "--leaks", "allow"]
    codes, said = run_together(2, "sonoformer.cli.main:main", words)
    assert codes == [0, 0], said
    assert len(list((tmp_path / "o").glob("fold-*/model"))) == 3
    codes, said = run_together(2, "sonoformer.cli.main:main", [*words, "--resume"])
    assert codes == [0, 0], said
    assert said.count("finished earlier") == 3
