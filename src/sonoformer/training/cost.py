"""What a training run will cost, from a few real steps: for `--dry-run`."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from sonoformer.data.batch import Batch
from sonoformer.training.config import TrainConfig
from sonoformer.training.devices import autocast, resolve_device, resolve_precision
from sonoformer.training.fitting import checkpointed_encoders
from sonoformer.training.learner import Learner
from sonoformer.training.optimisers import build_optimiser

# A step slower than this many seconds is not repeated.
_SLOW = 20.0


@dataclass(frozen=True)
class Estimate:
    """The cost of a run.

    Attributes:
        steps: optimiser steps.
        seconds_per_step: of one optimiser step, data loading and validation not included.
        seconds: of all steps.
        memory: peak bytes of the process (of the GPU, where one trains).
        disk: bytes of the checkpoints, while the new one is written beside the old.
        parameters: weights that are trained.
    """

    steps: int
    seconds_per_step: float
    seconds: float
    memory: int
    disk: int
    parameters: int

    def __str__(self) -> str:
        hours, minutes = divmod(round(self.seconds / 60), 60)
        return (
            f"{self.steps} steps of {self.seconds_per_step:.3g} s: {hours} h {minutes:02d} min; "
            f"memory {self.memory / 2**30:.2f} GiB; checkpoints {self.disk / 2**30:.2f} GiB; "
            f"{self.parameters / 1e6:.2f} M weights"
        )


def estimate(
    learner: Learner,
    batch: Batch,
    steps: int,
    config: TrainConfig,
    device: str = "auto",
) -> Estimate:
    """Time real steps on a copy of `learner`, which itself is left as it is.

    Args:
        learner: the model and its loss.
        batch: a batch as training will see it.
        steps: optimiser steps of the run (`Plan.of(config, ...).total`).
        config: the training options.
        device: `auto`, or a torch device.
    """
    where = resolve_device(device)
    precision = resolve_precision(config.precision, where)
    trial = copy.deepcopy(learner).to(where).train()
    optimiser = build_optimiser(trial, config.optimiser)
    batch = batch.to(where)
    passes: list[float] = []
    frugal = checkpointed_encoders(trial, config.checkpointing)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []), frugal:
        while len(passes) < 3 and (not passes or passes[-1] < _SLOW):
            began = time.perf_counter()
            with autocast(precision, where):
                loss, _ = trial.loss(batch)
            loss.backward()
            _synchronise(where)
            between = time.perf_counter()
            optimiser.step()
            optimiser.zero_grad()
            _synchronise(where)
            update = time.perf_counter() - between
            passes.append(config.accumulate * (between - began) + update)
    # The first step also allocates and plans.
    per_step = min(passes[1:] or passes)
    disk = _checkpoint_bytes(trial, optimiser, config)
    parameters = sum(p.numel() for p in trial.parameters() if p.requires_grad)
    return Estimate(steps, per_step, steps * per_step, _peak_memory(where), disk, parameters)


def _checkpoint_bytes(learner: Learner, optimiser: Optimizer, config: TrainConfig) -> int:
    weights = _bytes(learner.state_dict().values())
    moments = _bytes(v for state in optimiser.state.values() for v in state.values())
    last = weights + moments + (weights if config.ema is not None else 0)
    last += 2 * weights if config.average_from is not None else 0  # a mean in float64
    return 2 * last + (weights if config.best is not None else 0)


def _bytes(values: object) -> int:
    tensors = [v for v in values if isinstance(v, Tensor)]  # type: ignore[attr-defined]
    return sum(t.numel() * t.element_size() for t in tensors)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        import resource
    except ImportError as error:  # Windows
        raise NotImplementedError("memory is measured on Linux and macOS only") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
