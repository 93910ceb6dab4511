"""Recordings with tones in noise, which a small detector learns in seconds, and such an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from sonoformer.audio import write
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstConfig, AstEncoder
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.config import EventsConfig
from sonoformer.training.config import OptimiserConfig, ScheduleConfig, TrainConfig

RATE = 8000
HERTZ = {"low": 400.0, "high": 2200.0}
MakeRecordings = Callable[..., pl.DataFrame]


def recording(seed: int, seconds: float) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Noise with a tone every few seconds, and where they are."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.01, round(seconds * RATE))
    events, time = [], rng.uniform(0.3, 1.0)
    while time + 1.2 < seconds:
        label, lasts = str(rng.choice(list(HERTZ))), float(rng.uniform(0.4, 1.0))
        begin, end = round(time * RATE), round((time + lasts) * RATE)
        hertz = HERTZ[label] * rng.uniform(0.95, 1.05)
        wave[begin:end] += 0.3 * np.sin(2 * np.pi * hertz * np.arange(end - begin) / RATE)
        events.append((begin / RATE, end / RATE, label))
        time += lasts + float(rng.uniform(0.4, 1.5))
    return wave.astype(np.float32), events


@pytest.fixture
def make_recordings(tmp_path: Path) -> MakeRecordings:
    """Write recordings and give their events as a table `path, start, end, label`."""

    def make(count: int, seconds: float = 12.0, folder: str = "sounds", seed: int = 0):
        rows = []
        for number in range(count):
            path = tmp_path / folder / f"{number:02d}.wav"
            wave, events = recording(1000 * seed + number, seconds)
            write(path, wave, RATE)
            rows += [(str(path), *event) for event in events]
        return pl.DataFrame(rows, ["path", "start", "end", "label"], orient="row")

    return make


def marked(table: pl.DataFrame, **columns: list) -> Manifest:
    """The manifest of an events table."""
    extra = [pl.Series(name, values) for name, values in columns.items()]
    labels = table.with_columns(labels=pl.concat_list("label")).drop("label")
    return Manifest.of(labels.with_columns(*extra), "marks")


@pytest.fixture
def encoder() -> AstEncoder:
    torch.manual_seed(0)
    front = FbankConfig(sample_rate=RATE, n_mels=16, mean=-8.0, std=4.0)
    shape = {"patch": (8, 8), "stride": (8, 8), "table": (2, 32), "table_stride": (8, 8)}
    return AstEncoder(AstConfig(dim=16, depth=2, heads=2, front=front, **shape))  # type: ignore[arg-type]


@pytest.fixture
def config() -> Callable[..., FinetuneConfig]:
    def make(epochs: float = 10, head: str = "mean", **options: object) -> FinetuneConfig:
        train = TrainConfig(
            epochs=epochs,
            batch_size=8,
            workers=0,
            precision="fp32",
            optimiser=OptimiserConfig(lr=5e-3),
            schedule=ScheduleConfig(),
        )
        defaults: dict[str, object] = {
            "resamples": 100,
            "seconds": 2.0,
            "train": train,
            "classifier": ClassifierConfig(task="events"),
            "events": EventsConfig(head=head),  # type: ignore[arg-type]
        }
        return FinetuneConfig(**(defaults | options))  # type: ignore[arg-type]

    return make
