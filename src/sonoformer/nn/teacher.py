"""A teacher: a copy of a student that follows it as an exponential moving average."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn

from sonoformer.errors import UserError

_MOST = 0.1  # of a student that a teacher of a very short run takes over in a step


@dataclass(frozen=True)
class MomentumConfig:
    """How slowly a teacher follows: the share of itself that it keeps in a step."""

    start: float = 0.996
    """Momentum of the first step."""
    end: float = 1.0
    """Momentum of the last step."""
    law: Literal["cosine", "linear"] = "cosine"
    """How it goes from the first to the last."""
    ramp: float = 1.0
    """Share of the run after which the last momentum is reached and kept."""
    steps: int = 0
    """Steps of the run that the two figures were chosen for. A run of another length goes through
    the same law, and 1 - momentum grows as the run gets shorter (to 0.1 at most), so that the
    teacher forgets as much over the whole run; 0 takes the figures as they are."""

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(
                    f"momentum.{name}: must be between 0 and 1; got {getattr(self, name)}"
                )
        if not 0 < self.ramp <= 1:
            raise UserError(f"momentum.ramp: must be above 0 and at most 1; got {self.ramp}")
        if self.steps < 0:
            raise UserError(f"momentum.steps: must be at least 0; got {self.steps}")

    def at(self, step: int, total: int) -> float:
        """The momentum of optimiser step `step` (from 0) of `total`."""
        done = min(1.0, step / max(1, total - 1) / self.ramp)
        if self.law == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        follow = 1 - (self.start + (self.end - self.start) * done)
        if self.steps:
            follow = min(max(_MOST, follow), follow * self.steps / total)
        return 1 - follow


class Teacher(nn.Module):
    """A copy of `student` without gradients, always in evaluation mode (no stochastic depth).

    Its weights are kept in fp32 beside the student's and belong to the module's state, so that a
    resumed run continues with the same teacher.

    Args:
        student: what is copied, and followed later.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """A teacher stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """`teacher = momentum * teacher + (1 - momentum) * student`; buffers are copied."""
        own, theirs = ([p.detach() for p in m.parameters()] for m in (self.model, student))
        torch._foreach_lerp_(own, theirs, 1 - momentum)
        for ours, new in zip(self.model.buffers(), student.buffers(), strict=True):
            ours.copy_(new)
