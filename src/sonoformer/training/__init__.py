"""One engine for everything that learns, on Lightning's Trainer.

`fit` trains a `Learner`, `evaluate` measures one, `estimate` says beforehand what training costs.
Names are loaded on first use: the options are read by commands that need neither torch nor
Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "FitResult": "fitting",
    "Interrupted": "interrupts",
    "Learner": "learner",
    "OptimiserConfig": "config",
    "ScheduleConfig": "config",
    "TrainConfig": "config",
    "TrainData": "fitting",
    "estimate": "cost",
    "evaluate": "validation",
    "fit": "fitting",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sonoformer.training' has no attribute {name!r}")
    return getattr(import_module(f"sonoformer.training.{_PUBLIC[name]}"), name)
