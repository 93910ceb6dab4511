"""Averages of the weights over the epochs of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class EpochAverage:
    """The uniform mean of the weights at the ends of epochs `first` to `last` (AST, section 2.2:
    "weight averaging").

    The mean is kept in float64 on the CPU, and buffers are left alone.
    """

    def __init__(self, module: nn.Module, first: int, last: int | None) -> None:
        self.module, self.first, self.last = module, first, last
        self.count = 0
        self._mean: dict[str, Tensor] = {}

    def end_of_epoch(self, epoch: int) -> None:
        """Take in the weights after `epoch` (from 1), if it is one of those averaged."""
        if epoch < self.first or (self.last is not None and epoch > self.last):
            return
        self.count += 1
        for name, weight in self.module.named_parameters():
            value = weight.detach().cpu().double()
            mean = self._mean.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / self.count

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module holds the mean inside, and its own weights again afterwards."""
        kept = {name: weight.detach().clone() for name, weight in self.module.named_parameters()}
        self.install()
        try:
            yield
        finally:
            _write(self.module, kept)

    def install(self) -> None:
        """Put the mean into the module for good."""
        _write(self.module, self._mean)

    def state_dict(self) -> dict[str, Any]:
        """Count and means."""
        return {"count": self.count, "mean": dict(self._mean)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` left off."""
        self.count = state["count"]
        self._mean = {name: mean.clone() for name, mean in state["mean"].items()}


@torch.no_grad()
def _write(module: nn.Module, values: dict[str, Tensor]) -> None:
    for name, weight in module.named_parameters():
        if name in values:
            weight.copy_(values[name])
