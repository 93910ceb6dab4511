"""A program that trains a toy, for the tests that send it real signals.

Usage: train_toy.py FOLDER WORKERS RESUME(0|1) SECONDS_A_STEP
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from tests.training.conftest import Held, Toy, make_data
from tests.training.test_fitting import RICH

from sonoformer.errors import UserError
from sonoformer.run import Run
from sonoformer.training.config import TrainConfig
from sonoformer.training.fitting import fit


def main(folder: str, workers: int, resume: bool, seconds: float) -> int:
    torch.set_num_threads(1)
    config = TrainConfig(**{**vars(RICH), "workers": workers})
    toy = Toy(at=lambda count: time.sleep(seconds))
    try:
        with Run.start(folder, "toy", config, 5, resume=resume) as run:
            run.echo = None
            held = Held(make_data(train=False))
            fit(toy, make_data(), held, config, run, seed=5, device="cpu", resume=resume)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", float(sys.argv[4])))
