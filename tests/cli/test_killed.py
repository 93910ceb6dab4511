"""Killed without warning, a command goes on where it stopped and ends with the same result."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from sonoformer.audio import write
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.tasks.model import Model

pytestmark = pytest.mark.slow
PATIENCE = 600.0


def sonoformer(*words: object) -> subprocess.Popen:
    program = "from sonoformer.cli.main import main; main()"
    return subprocess.Popen([sys.executable, "-c", program, *map(str, words)])


def kill_when(process: subprocess.Popen, reached) -> None:  # type: ignore[no-untyped-def]
    """SIGKILL as soon as `reached()`."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9


def test_killed_prediction_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        sound = rng.normal(0, 0.1, 400 * 4000).astype(np.float32)
        write(tmp_path / "field" / f"{number}.wav", sound, 4000)
    Model(AstEncoder(ast_config("micro")), ("frog", "owl")).save(tmp_path / "model")
    words = ["predict", tmp_path / "field", "--model", tmp_path / "model", "--window", "1"]
    assert sonoformer(*words, "--out", tmp_path / "whole", "--format", "parquet").wait() == 0
    out = tmp_path / "killed"
    process = sonoformer(*words, "--out", out, "--format", "parquet")
    kill_when(process, lambda: len(list(out.glob("parts/*.json"))) >= 2)
    assert sonoformer(*words, "--out", out, "--format", "parquet").wait() == 0
    assert '"resumed": 0' not in (out / "metrics.json").read_text()
    again = pl.read_parquet(out / "predictions.parquet")
    whole = pl.read_parquet(tmp_path / "whole" / "predictions.parquet")
    assert again.drop("frog", "owl").equals(whole.drop("frog", "owl"))
    assert np.allclose(again["frog"], whole["frog"], atol=1e-5)


def test_killed_pretraining_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        sound = rng.normal(0, 0.1, 12000).astype(np.float32)
        write(tmp_path / "field" / f"{number}.wav", sound, 16000)
    words = [
        "pretrain", tmp_path / "field", "--size", "micro", "--batch-size", "4", "--workers", "0",
        "--checkpoint-minutes", "0.001", "--holdout", "0.2", "--steps", "40",
    ]  # fmt: skip
    assert sonoformer(*words, "--out", tmp_path / "whole").wait() == 0
    out = tmp_path / "killed"
    process = sonoformer(*words, "--out", out)
    kill_when(process, lambda: (out / "checkpoints" / "last.ckpt").exists())
    assert not (out / "model").exists()
    assert sonoformer(*words, "--out", out, "--resume").wait() == 0
    ours = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    theirs = load_file(out / "model" / "model.safetensors")
    assert all(ours[name].equal(theirs[name]) for name in ours)
