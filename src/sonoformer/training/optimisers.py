"""From options and a model's parameter groups to a torch optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sonoformer.errors import UserError
from sonoformer.training.config import OptimiserConfig


def build_optimiser(learner: nn.Module, config: OptimiserConfig) -> Optimizer:
    """The optimiser of `learner.parameter_groups`.

    Each group keeps its peak rate as `initial_lr` and its first decay as `initial_decay`. Frozen
    weights are left out: they would only cost memory.

    Raises:
        UserError: nothing is left to train.
    """
    groups = []
    for group in learner.parameter_groups(config.peak):  # type: ignore[operator]
        params = [p for p in group["params"] if p.requires_grad]
        lr, decay = group.get("lr", config.peak), group.get("weight_decay", config.weight_decay)
        rest = {**group, "lr": lr, "initial_lr": lr}
        for part, own in _by_decay(params, decay, config.decayed):
            groups.append({**rest, "params": part, "weight_decay": own, "initial_decay": own})
    if not groups:
        raise UserError("the model has no weights to train: all are frozen.")
    return _KINDS[config.name](groups, config)


def _by_decay(
    params: list[nn.Parameter], decay: float, decayed: str
) -> list[tuple[list[nn.Parameter], float]]:
    """The weights that decay and those that do not, as far as there are any."""
    if decayed == "all" or decay == 0:
        return [(params, decay)] if params else []
    parts = [([p for p in params if p.ndim > 1], decay), ([p for p in params if p.ndim < 2], 0.0)]
    return [(part, own) for part, own in parts if part]


def _adam(groups: list[dict[str, Any]], config: OptimiserConfig) -> Optimizer:
    return torch.optim.Adam(groups, **_adam_options(config))


def _adamw(groups: list[dict[str, Any]], config: OptimiserConfig) -> Optimizer:
    return torch.optim.AdamW(groups, **_adam_options(config))


def _sgd(groups: list[dict[str, Any]], config: OptimiserConfig) -> Optimizer:
    momentum = config.betas[0]
    decay = config.weight_decay
    return torch.optim.SGD(groups, config.peak, momentum=momentum, weight_decay=decay, fused=True)


def _adam_options(config: OptimiserConfig) -> dict[str, Any]:
    # Fused, measured on two CPU cores with the weights of the tiny encoder: 3.7 ms a step, against
    # 15 ms for foreach and 19 ms for the loop; on CUDA it is torch's fastest kernel too.
    return {
        "lr": config.peak,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
        "fused": True,
    }


_KINDS = {"adam": _adam, "adamw": _adamw, "sgd": _sgd}
