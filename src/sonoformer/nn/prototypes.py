"""Which of many prototypes is it? Heads, centring and temperatures of self-distillation (DINO).

Caron et al. (ICCV 2021), section 3.1; for clips and patches at once as in ASiT (TASLP 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.nn.reduce import all_sum


@dataclass(frozen=True)
class HeadConfig:
    """What tells prototypes from tokens."""

    hidden: int = 2048
    """Width of the two hidden layers."""
    bottleneck: int = 256
    """Width in which prototypes are directions."""
    clip: int = 8192
    """Prototypes of whole clips."""
    patch: int = 1024
    """Prototypes of patches."""

    def __post_init__(self) -> None:
        for name in ("hidden", "bottleneck", "clip", "patch"):
            if getattr(self, name) < 2:
                raise UserError(f"head.{name}: must be at least 2; got {getattr(self, name)}")


@dataclass(frozen=True)
class TemperatureConfig:
    """How decided the choices among prototypes are: logits are divided by these."""

    student: float = 0.1
    """Of the student."""
    start: float = 0.04
    """Of the teacher, in the first step."""
    end: float = 0.07
    """Of the teacher, after the warm-up."""
    warmup: float = 0.3
    """Share of the run over which the teacher's rises in a line; 30 of 100 epochs in ASiT."""

    def __post_init__(self) -> None:
        for name in ("student", "start", "end"):
            if not getattr(self, name) > 0:
                raise UserError(f"temperature.{name}: must be above 0; got {getattr(self, name)}")
        if not 0 <= self.warmup <= 1:
            raise UserError(f"temperature.warmup: must be between 0 and 1; got {self.warmup}")

    def at(self, step: int, total: int) -> float:
        """The teacher's in optimiser step `step` (from 0) of `total`."""
        rising = self.warmup * total
        along = min(1.0, step / rising) if rising else 1.0
        return self.start + (self.end - self.start) * along


class Logits(NamedTuple):
    """Cosines to the prototypes, in fp32.

    Attributes:
        clip: `(clips, prototypes)`.
        patch: `(clips, tokens, prototypes)`.
    """

    clip: Tensor
    patch: Tensor


class Prototypes(nn.Module):
    """Directions, of length 1 whatever their weights are: a weight-normalised linear layer.

    Args:
        dim: width.
        count: number of directions.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` -> `(..., count)`, in fp32."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), F.normalize(self.weight.float(), dim=-1))


class PrototypeHead(nn.Module):
    """Three layers, shared by clips and patches, and the prototypes of either.

    Args:
        dim: width of the tokens.
        config: the options.
    """

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.clip = Prototypes(config.bottleneck, config.clip)
        self.patch = Prototypes(config.bottleneck, config.patch)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, clip: Tensor, patches: Tensor) -> Logits:
        """Tokens of clips `(clips, dim)` and of patches `(clips, tokens, dim)` -> their logits."""
        return Logits(self.clip(self.directions(clip)), self.patch(self.directions(patches)))

    def directions(self, x: Tensor) -> Tensor:
        """`(..., dim)` -> vectors of length 1 `(..., bottleneck)`, in fp32."""
        # Where there is no token there are zeros, whose length must not be divided by.
        return F.normalize(self.mlp(x).float(), dim=-1, eps=1e-6)


class Centre(nn.Module):
    """The moving average of a teacher's raw logits, which its targets are taken relative to.

    Without it all targets drift to one prototype. `observe` sums up the batches of a step, `update`
    moves the average once a step, by the mean over all of them in all processes: neither the number
    of processes nor of accumulated batches enters.

    Args:
        count: number of prototypes.
        decay: share of the average that a step leaves.
    """

    value: Tensor
    total: Tensor

    def __init__(self, count: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", torch.zeros(count))
        # Sums over tokens, and their number. Zero between steps, so a checkpoint needs none of it.
        self.register_buffer("total", torch.zeros(count + 1), persistent=False)

    @torch.no_grad()
    def observe(self, logits: Tensor, keep: Tensor) -> None:
        """Take note of `logits` `(..., count)` where `keep` `(...)` is true."""
        weight = keep.flatten().float()
        self.total[:-1] += weight @ logits.float().flatten(0, -2)
        self.total[-1] += weight.sum()

    @torch.no_grad()
    def update(self) -> None:
        """Move the average by what was observed since the last time."""
        total = all_sum(self.total)
        mean = total[:-1] / total[-1].clamp_min(1)
        self.value.lerp_(mean, 1 - self.decay)
        self.total.zero_()
