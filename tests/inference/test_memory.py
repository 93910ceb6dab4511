"""Memory over a recording of hours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

HOURS = 3
PROGRAM = """
import resource, sys
from pathlib import Path
import polars as pl
import torch
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.inference import Settings, write_table
from sonoformer.tasks.model import Model
from sonoformer.tasks.prediction import predict

torch.manual_seed(0)
model = Model(AstEncoder(ast_config("tiny")), ("frog", "owl")).eval()
out = Path(sys.argv[2])
report = predict(model, [Path(sys.argv[1])], Settings(), out / "parts")
for format in ("csv", "json", "raven"):
    write_table(report.table(), out, format, thresholds={"frog": 0.5, "owl": 0.5})
print(report.windows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_three_hours_fit_into_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "night.wav"
    minute = np.random.default_rng(0).integers(-2000, 2000, 60 * 16000).astype(np.int16)
    with soundfile.SoundFile(path, "w", 16000, 1) as file:
        for _ in range(HOURS * 60):
            file.write(minute)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
    )
    windows, peak = map(int, done.stdout.split())
    print(f"{HOURS} h at 16 kHz, tiny: peak {peak / 2**20:.0f} MiB")
    assert windows == HOURS * 360
    assert peak < 1.5 * 2**30
