"""A learner of a few hundred weights, on noise, with everything a real one has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset, collate
from sonoformer.data.order import Order
from sonoformer.run import Run
from sonoformer.training.config import TrainConfig
from sonoformer.training.fitting import FitResult, TrainData, fit
from sonoformer.training.learner import Learner

CLIPS, SAMPLES, RATE = 42, 100, 16


class Noise:
    """A clip source in memory."""

    sample_rate = RATE
    lengths = np.full(CLIPS, SAMPLES)

    def __len__(self) -> int:
        return CLIPS

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        samples = np.random.default_rng(index).standard_normal(SAMPLES, dtype=np.float32)
        return samples[start : start + count]

    def name(self, index: int) -> str:
        return f"noise{index}.wav"


class Encoder(nn.Module):
    sample_rate = RATE

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.GELU(), nn.Dropout(0.3), nn.Linear(16, 4))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, wave: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.layers(wave)


class Toy(Learner):
    """Predicts the batch's keyed noise from its samples.

    `at` is called with the number of losses computed so far, before each.
    """

    noise = 4

    def __init__(self, at: Callable[[int], Any] = lambda count: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder()
        self.at, self.count = at, 0
        self.during_validation: Callable[[], Any] = lambda: None

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.noise is not None
        scale = self.at(self.count)
        self.count += 1
        loss = (self.encoder(batch.wave) - batch.noise).square().mean()
        if isinstance(scale, float):
            loss = loss * scale
        return loss, {"twice": 2 * loss.detach()}

    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        assert batch.noise is not None
        assert not self.training
        self.during_validation()
        error = (self.encoder(batch.wave) - batch.noise).square()
        return {"mse": (error.sum(), torch.tensor(error.numel())), "clips": _count(len(batch))}


def _count(number: int) -> tuple[Tensor, Tensor]:
    return torch.tensor(float(number)), torch.tensor(1)


class Held:
    """The first batches of an order, the same each time."""

    def __init__(self, data: TrainData, batches: int = 3) -> None:
        self.data, self.batches = data, batches

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.batches):
            yield collate([self.data.dataset[draw] for draw in self.data.order.batch(step)])


def make_data(train: bool = True, batch_size: int = 4) -> TrainData:
    dataset = ClipDataset(Noise(), crop=64, seed=3, train=train, noise=Toy.noise)
    return TrainData(dataset, Order(CLIPS, batch_size=batch_size, seed=3))


@dataclass
class Bench:
    """Trains toys into folders below `root`."""

    root: Path

    def fit(
        self,
        name: str,
        config: TrainConfig,
        learner: Toy | None = None,
        resume: bool = False,
        validation: bool = True,
        data: TrainData | None = None,
        **options: Any,
    ) -> FitResult:
        learner, seed = learner or Toy(), 5
        held = Held(make_data(train=False)) if validation else None
        with Run.start(self.root / name, "toy", config, seed, resume=resume) as run:
            run.echo = None
            return fit(
                learner,
                data or make_data(),
                held,
                config,
                run,
                seed=seed,
                resume=resume,
                **{"device": "cpu", **options},
            )


@pytest.fixture(autouse=True)
def no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests train a dozen steps; a picture would take longer than that."""
    if "drawing" not in request.fixturenames:
        monkeypatch.setattr("sonoformer.training.report.draw", lambda rows, path: None)


@pytest.fixture
def drawing() -> None:
    """Asks for the picture after all."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
