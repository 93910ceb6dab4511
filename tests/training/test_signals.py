"""Real programs, real signals, real worker processes, at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.training.conftest import Bench
from tests.training.test_fitting import RICH, assert_same_run

from sonoformer.training.config import TrainConfig


def _start(folder: Path, workers: int, resume: bool, seconds: float) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("train_toy.py")
    arguments = [str(folder), str(workers), str(int(resume)), str(seconds)]
    # Its own process group, so that a signal may go to the workers too, as Ctrl-C does.
    return subprocess.Popen([sys.executable, str(program), *arguments], start_new_session=True)


def _training(folder: Path, resumed: int) -> bool:
    """Whether the program has come to its steps."""
    if resumed:
        return (folder / "log.txt").read_text().count("continuing after step") == resumed
    return (folder / "checkpoints/last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group"),
    [
        pytest.param(signal.SIGKILL, False, id="kill"),
        pytest.param(signal.SIGTERM, False, id="terminate"),
        pytest.param(signal.SIGTERM, True, id="terminate-group"),
        pytest.param(signal.SIGINT, True, id="ctrl-c"),
    ],
)
def test_any_end_and_resume_give_the_same_bits(bench: Bench, number: int, group: bool) -> None:
    whole, torn = bench.root / "whole", bench.root / "torn"
    bench.fit("whole", TrainConfig(**{**vars(RICH), "workers": 1}))
    chance = random.Random(f"{number} {group}")
    for attempt in range(2):
        process = _start(torn, workers=1, resume=attempt > 0, seconds=0.1)
        try:
            while not _training(torn, attempt):
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 1.0))
            (os.killpg if group else os.kill)(process.pid, number)
            expected = -number if number == signal.SIGKILL else 128 + number
            assert process.wait(600) == expected
        finally:
            process.kill()
    assert _start(torn, workers=1, resume=True, seconds=0.0).wait(600) == 0
    assert_same_run(whole, torn)
