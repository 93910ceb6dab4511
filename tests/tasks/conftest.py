"""Sounds that a small encoder tells apart in seconds, and such an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstConfig, AstEncoder
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.training.config import OptimiserConfig, ScheduleConfig, TrainConfig

RATE = 8000
HERTZ = {"low": 300.0, "mid": 900.0, "high": 2500.0}


def tone(label: str, seed: int, seconds: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    hertz = HERTZ[label] * rng.uniform(0.9, 1.1)
    wave = 0.4 * np.sin(2 * np.pi * hertz * time) + 0.02 * rng.normal(size=len(time))
    return wave.astype(np.float32)


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Manifest]:
    """Write tones and give their manifest; further columns by keyword."""

    def make(labels: Sequence[str | None], seconds: float = 0.4, **columns: list) -> Manifest:
        paths = []
        for number, label in enumerate(labels):
            path = tmp_path / "sounds" / f"{number:03d}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, tone(label or "mid", number, seconds), RATE)
            paths.append(str(path))
        rows = {"path": paths, "labels": [[] if name is None else [name] for name in labels]}
        table = pl.DataFrame({**rows, **columns}, schema_overrides={"labels": pl.List(pl.String)})
        return Manifest.of(table, "tones")

    return make


@pytest.fixture
def encoder() -> AstEncoder:
    torch.manual_seed(0)
    front = FbankConfig(sample_rate=RATE, n_mels=16, mean=-8.0, std=4.0)
    return AstEncoder(
        AstConfig(dim=16, depth=2, heads=2, patch=(8, 8), stride=(8, 8), table=(2, 8),
                  table_stride=(8, 8), front=front)
    )  # fmt: skip


@pytest.fixture
def config() -> Callable[..., FinetuneConfig]:
    def make(epochs: float = 8, **options: object) -> FinetuneConfig:
        train = TrainConfig(
            epochs=epochs,
            batch_size=6,
            workers=0,
            precision="fp32",
            optimiser=OptimiserConfig(lr=3e-3),
            schedule=ScheduleConfig(),
        )
        defaults: dict[str, object] = {"resamples": 100, "seconds": 1.0, "train": train}
        return FinetuneConfig(**(defaults | options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Run]:
    """A run that keeps its log lines in `lines`."""

    def make(config: FinetuneConfig, name: str = "run", **options: object) -> Run:
        run = Run.start(tmp_path / name, "finetune", config, 0, **options)  # type: ignore[arg-type]
        run.lines = []  # type: ignore[attr-defined]
        run.echo = run.lines.append  # type: ignore[attr-defined]
        return run

    return make
