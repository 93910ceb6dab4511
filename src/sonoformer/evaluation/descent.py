"""Training of probes that look at every token: small modules, few steps, AdamW.

Rate and number of steps are chosen on clips held out of the training clips, groups kept whole; the
probe is then trained on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.evaluation.bags import Bags
from sonoformer.evaluation.inner import Lessons, Mask, Matrix, inner_folds, probabilities

Rows = NDArray[np.int64]
# Clips scored at once.
_BATCH = 128


@dataclass(frozen=True)
class DescentConfig:
    """How probes on tokens are trained."""

    rates: tuple[float, ...] = (1e-3, 5e-3)
    """Learning rates to choose from."""
    steps: tuple[int, ...] = (100, 400)
    """Numbers of steps to choose from."""
    batch_size: int = 64
    """Clips a step."""
    tokens: int = 128
    """Tokens of a clip that a step hears, drawn anew each time; scoring hears all of them."""
    weight_decay: float = 0.01
    """AdamW's decay of the weights."""
    folds: int = 4
    """Parts of the training clips, by group; the first is held out for choosing."""

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0:
            raise UserError(f"rates: each must be above 0; got {self.rates}.")
        if not self.steps or min(self.steps) < 1:
            raise UserError(f"steps: each must be at least 1; got {self.steps}.")
        for name in ("batch_size", "tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: must be at least 1; got {getattr(self, name)}.")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay: must not be negative; got {self.weight_decay}.")
        if self.folds < 2:
            raise UserError(f"folds: must be at least 2; got {self.folds}.")


class TokenProbe(nn.Module):
    """Tokens of a clip -> logits; what probes on tokens have in common."""

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """`(batch, tokens, dim)` standardised, bool `(batch, tokens)` -> `(batch, classes)`."""
        raise NotImplementedError

    def penalty(self) -> Tensor | float:
        """Added to the loss."""
        return 0.0

    def constrain(self) -> None:
        """Called after each step."""


@dataclass(frozen=True, eq=False)
class Descended:
    """A trained probe.

    Attributes:
        probe: the module.
        mean, std: `(dim,)` that tokens are standardised by.
        single: softmax over classes; else a sigmoid each.
        rate, steps: what was chosen.
    """

    probe: TokenProbe
    mean: Tensor
    std: Tensor
    single: bool
    rate: float
    steps: int

    @torch.inference_mode()
    def probabilities(self, bags: Bags, rows: Rows) -> Matrix:
        """`(clips, classes)` in [0, 1] of some clips."""
        return probabilities(self.logits(bags, rows), self.single)

    @torch.inference_mode()
    def logits(self, bags: Bags, rows: Rows) -> Tensor:
        """`(clips, classes)`."""
        # Clips of like length together, so that little is padded.
        order = np.argsort(np.diff(bags.offsets)[rows], kind="stable")
        parts = []
        for start in range(0, len(rows), _BATCH):
            x, real = bags.batch(rows[order[start : start + _BATCH]])
            parts.append(self.probe((x - self.mean) / self.std, real))
        return torch.cat(parts)[torch.from_numpy(np.argsort(order))]


def descend(
    make: Callable[[], TokenProbe],
    bags: Bags,
    rows: Rows,
    targets: Mask,
    *,
    single: bool,
    known: Mask | None = None,
    weight: Matrix | None = None,
    groups: Sequence[str] | None = None,
    config: DescentConfig = DescentConfig(),
    seed: int = 0,
) -> Descended:
    """Choose rate and steps, then train on all training clips.

    Args:
        make: a new probe, drawn from torch's generator.
        bags: the tokens of all clips.
        rows: the training clips.
        targets, known, weight, groups: of these, as `linear.fit_probe`.
        single: exactly one class a clip.
        config: the options.
        seed: of folds, weights and order.

    Raises:
        UserError: as `linear.fit_probe`.
    """
    lessons = Lessons.of(targets, single, known, weight)
    choices = list(product(config.rates, sorted(set(config.steps))))
    rate, steps = choices[len(choices) // 2]
    fold = inner_folds(targets, groups, config.folds, seed)
    held = fold == 0
    if len(choices) > 1 and fold.max() > 0 and targets[~held].any(0).sum() > 1:
        losses = {}
        apart = lessons.part(torch.from_numpy(held))
        rest = torch.from_numpy(~held)
        for rate, steps in choices:
            tried = _train(make, bags, rows[~held], lessons.part(rest), rate, steps, config, seed)
            losses[rate, steps] = float(apart.loss(tried.logits(bags, rows[held])))
        rate, steps = min(losses, key=lambda choice: losses[choice])
    return _train(make, bags, rows, lessons, rate, steps, config, seed)


def _train(
    make: Callable[[], TokenProbe],
    bags: Bags,
    rows: Rows,
    lessons: Lessons,
    rate: float,
    steps: int,
    config: DescentConfig,
    seed: int,
) -> Descended:
    """`steps` steps at a rate that falls to zero along a half cosine."""
    mean, std = bags.scale(rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = make().train()
    optimiser = torch.optim.AdamW(probe.parameters(), rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    random = np.random.default_rng(seed)
    order = np.zeros(0, np.int64)
    size = min(config.batch_size, len(rows))
    for _ in range(steps):
        if len(order) < size:
            order = np.concatenate([order, random.permutation(len(rows))])
        chosen, order = order[:size], order[size:]
        x, real = bags.batch(rows[chosen], config.tokens, random)
        logits = probe((x - mean) / std, real)
        loss = lessons.part(torch.from_numpy(chosen)).loss(logits) + probe.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        probe.constrain()
    return Descended(probe.eval(), mean, std, lessons.single, rate, steps)
