"""Training options refuse what makes no sense."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sonoformer.errors import UserError
from sonoformer.settings import build, plain
from sonoformer.training.config import OptimiserConfig, ScheduleConfig, TrainConfig


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        (OptimiserConfig, {"lr": 0.0}, "lr"),
        (OptimiserConfig, {"lr": float("nan")}, "lr"),
        (OptimiserConfig, {"eps": 0.0}, "eps"),
        (OptimiserConfig, {"betas": (0.9, 1.0)}, "betas"),
        (OptimiserConfig, {"weight_decay": -1.0}, "weight_decay"),
        (OptimiserConfig, {"clip": -1.0}, "clip"),
        (ScheduleConfig, {"name": "plateau"}, "monitor"),
        (ScheduleConfig, {"name": "step"}, "milestones"),
        (ScheduleConfig, {"name": "step", "milestones": (5, 2)}, "milestones"),
        (ScheduleConfig, {"factor": 1.5}, "factor"),
        (ScheduleConfig, {"floor": -0.1}, "floor"),
        (ScheduleConfig, {"warmup_steps": -1}, "warmup_steps"),
        (ScheduleConfig, {"patience": -1}, "patience"),
        (TrainConfig, {"steps": 0}, "steps"),
        (TrainConfig, {"epochs": 0.0}, "epochs"),
        (TrainConfig, {"batch_size": 0}, "batch_size"),
        (TrainConfig, {"accumulate": 0}, "accumulate"),
        (TrainConfig, {"log_every": 0}, "log_every"),
        (TrainConfig, {"workers": -1}, "workers"),
        (TrainConfig, {"ema": 1.0}, "ema"),
        (TrainConfig, {"validate_every": 0}, "validate_every"),
        (TrainConfig, {"checkpoint_minutes": -1.0}, "checkpoint_minutes"),
        (TrainConfig, {"average_to": 3}, "average_to"),
        (TrainConfig, {"average_from": 4, "average_to": 3}, "average_to"),
        (TrainConfig, {"average_from": 1, "ema": 0.9}, "average_from"),
        (TrainConfig, {"average_from": 1, "best": "accuracy"}, "average_from"),
    ],
)
def test_bad_options_name_themselves(kind: Any, values: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}: "):
        kind(**values)


def test_options_survive_a_recipe() -> None:
    config = TrainConfig(
        steps=9,
        schedule=ScheduleConfig(name="step", milestones=(10, 15)),
        optimiser=OptimiserConfig(name="adam", betas=(0.95, 0.999), weight_decay=5e-7),
    )
    assert build(TrainConfig, plain(config), "recipe") == config


def test_options_are_read_without_torch() -> None:
    code = (
        "import sys, sonoformer.training as t; t.TrainConfig; "
        "bad = {'torch', 'lightning', 'matplotlib'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
