"""Sums and means over all processes of a distributed run; in a single process the identity.

The engine averages the gradients, and the figures for the curves, over the processes. So a loss
must be such that the average of the processes' losses is the loss of the whole batch: for a mean
over clips, tokens or whatever else each process has its own number of, `all_mean` sees to that.
What needs more than a share of the batch, such as a centre or a spread, is made of `all_sum`s.

Each call is a collective: every process must make it, in the same order. Where processes go
different ways, as in validation, they work `alone`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch import distributed as dist

_alone: ContextVar[bool] = ContextVar("alone", default=False)


def world_size() -> int:
    """Number of processes that work together; 1 inside `alone`."""
    if _alone.get() or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


@torch.no_grad()
def all_sum(x: Tensor) -> Tensor:
    """Sum of `x` over all processes, the same on each, without gradient."""
    x = x.detach()
    if world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


def all_mean(total: Tensor, count: Tensor) -> Tensor:
    """This process's share of `total / count` over all processes; its gradient is `total`'s.

    The shares differ, and their average over the processes is the mean over all that was counted,
    whatever each process counted. In a single process it is `total / count`.

    Args:
        total: sum over this process's clips (or tokens, ...).
        count: how many there were; where there are none at all, the result is 0 for a total of 0.
    """
    whole = all_sum(count.to(total.dtype)).clamp_min(1)
    return total / (whole / world_size())


@contextmanager
def alone() -> Iterator[None]:
    """Inside, a process asks nothing of the others: `all_sum` and `all_mean` take its own part."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)
