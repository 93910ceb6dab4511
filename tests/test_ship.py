"""From a pretraining run to a shipped encoder with its card."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.encoders import load_encoder

SCRIPT = Path(__file__).parents[1] / "scripts" / "ship.py"


def test_a_run_becomes_an_encoder_with_a_card(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        sound = 0.1 * rng.standard_normal(8000)
        write(tmp_path / "pool" / f"{number}.wav", sound.astype(np.float32), 16000)
    words = ["pretrain", str(tmp_path / "pool"), "--out", str(tmp_path / "run"), "--size", "micro",
             "--steps", "2", "--batch-size", "2", "--crop", "0.5", "--holdout", "0.3",
             "--workers", "0"]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    pool = tmp_path / "pool.csv"
    pool.write_text("path,weight,package,kind,duration\na.wav,1,freepats,note,3600\n")
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "table.md").write_text("# Task suite\n\n| task | score |\n|---|---|\n| owls | 0.5 |\n")
    options = ["--suite", suite, "--pool", pool, "--notes", "For owls.", "--out", tmp_path / "to"]
    subprocess.run([sys.executable, SCRIPT, tmp_path / "run", "owls", *options], check=True)
    card = (tmp_path / "to" / "owls" / "README.md").read_text(encoding="utf-8")
    for part in ("For owls.", "| owls | 0.5 |", "GPL-2+ with exception | 1 | 1.00 | 100.0 %",
                 "2 steps of 2 clips", "objective: mspm", "Apache-2.0"):  # fmt: skip
        assert part in card
    assert (tmp_path / "to" / "owls" / "curves.png").stat().st_size > 0
    assert load_encoder(tmp_path / "to" / "owls").depth == 5
