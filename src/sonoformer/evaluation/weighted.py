"""The weighted-layer probe: a linear classifier of a learned mean of all blocks' outputs.

A block's best features rarely leave the last one. The probe learns one weight a block (softmax)
together with the classifier, as SUPERB does (Yang et al., Interspeech 2021, section 3.3). Pooling
is linear, so weighting pooled outputs equals pooling weighted ones, and pooled outputs are cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.evaluation.inner import Lessons, Mask, Matrix, Scale, inner_folds, probabilities


@dataclass(frozen=True)
class WeightedConfig:
    """How the outputs of all blocks are judged."""

    penalties: tuple[float, ...] = (1.0, 0.1, 0.01)
    """L2 penalties on the classifier's weights to choose from; one is used as it is."""
    folds: int = 2
    """Parts of the training clips, by group, for choosing the penalty."""
    iterations: int = 60
    """L-BFGS iterations at most for the final fit; half of them while choosing."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise UserError(f"penalties: each must be above 0; got {self.penalties}.")
        if self.folds < 2:
            raise UserError(f"folds: must be at least 2; got {self.folds}.")
        if self.iterations < 2:
            raise UserError(f"iterations: must be at least 2; got {self.iterations}.")


@dataclass(frozen=True, eq=False)
class WeightedProbe:
    """A classifier of the weighted mean of standardised outputs.

    Attributes:
        layers: `(layers,)` weights that sum to 1.
        weight: `(dim, classes)`, bias: `(classes,)`.
        scale: of each layer's features.
        single: softmax over classes; else a sigmoid each.
        penalty: the penalty that was chosen.
    """

    layers: Matrix
    weight: Tensor
    bias: Tensor
    scale: Scale
    single: bool
    penalty: float

    def probabilities(self, features: Matrix) -> Matrix:
        """`(clips, layers, dim)` -> `(clips, classes)` in [0, 1]."""
        mixed = torch.einsum("nld,l->nd", self.scale(features), torch.from_numpy(self.layers))
        return probabilities(mixed @ self.weight + self.bias, self.single)


def fit_weighted(
    features: Matrix,
    targets: Mask,
    *,
    single: bool,
    known: Mask | None = None,
    weight: Matrix | None = None,
    groups: Sequence[str] | None = None,
    config: WeightedConfig = WeightedConfig(),
    seed: int = 0,
) -> WeightedProbe:
    """Layer weights and classifier together, by L-BFGS from equal weights.

    Args:
        features: `(clips, layers, dim)`, a pooled vector a block.
        targets, single, known, weight, groups, seed: as `linear.fit_probe`.
        config: the options.

    Raises:
        UserError: as `linear.fit_probe`.
    """
    lessons = Lessons.of(targets, single, known, weight)
    scale = Scale.of(features)
    scaled = scale(features)
    penalty = _choose(scaled, lessons, inner_folds(targets, groups, config.folds, seed), config)
    layers, solution = _solve(scaled, lessons, penalty, config.iterations)
    return WeightedProbe(
        layers.softmax(0).numpy(), solution[:-1], solution[-1], scale, single, penalty
    )


def _choose(
    features: Tensor, lessons: Lessons, fold: NDArray[np.int64], config: WeightedConfig
) -> float:
    """The penalty with the least loss on held-out training clips; the middle one without any."""
    folds = int(fold.max()) + 1
    if folds < 2 or len(config.penalties) < 2:
        return float(np.median(config.penalties))
    losses = dict.fromkeys(config.penalties, 0.0)
    for number in range(folds):
        held = torch.from_numpy(fold == number)
        rest, apart = features[~held], features[held]
        for penalty in losses:
            layers, solution = _solve(rest, lessons.part(~held), penalty, config.iterations // 2)
            mixed = torch.einsum("nld,l->nd", apart, layers.softmax(0))
            logits = mixed @ solution[:-1] + solution[-1]
            losses[penalty] += float(lessons.part(held).loss(logits))
    return min(losses, key=lambda penalty: losses[penalty])


def _solve(
    features: Tensor, lessons: Lessons, penalty: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Layer scores `(layers,)` before the softmax and `(dim + 1, classes)`, whose last row is the
    bias."""
    layers = torch.zeros(features.shape[1], requires_grad=True)
    shape = (features.shape[2] + 1, lessons.targets.shape[1])
    solution = torch.zeros(shape, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [layers, solution],
        max_iter=iterations,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        mixed = torch.einsum("nld,l->nd", features, layers.softmax(0))
        loss = lessons.loss(mixed @ solution[:-1] + solution[-1])
        loss = loss + penalty / 2 * solution[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return layers.detach(), solution.detach()
