"""The linear probe: what a linear classifier can read off frozen features.

The strength of the penalty is chosen by cross-validation inside the training clips, with groups
kept whole; test clips play no part in it.
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
class ProbeConfig:
    """How features are judged."""

    penalties: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    """L2 penalties on the weights to choose from; one is used as it is. scikit-learn's C is
    1 / (penalty x clips)."""
    folds: int = 4
    """Parts of the training clips, by group, for choosing the penalty."""
    iterations: int = 200
    """L-BFGS iterations at most for the final fit; a quarter of them while choosing."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise UserError(f"penalties: each must be above 0; got {self.penalties}.")
        if self.folds < 2:
            raise UserError(f"folds: must be at least 2; got {self.folds}.")
        if self.iterations < 1:
            raise UserError(f"iterations: must be at least 1; got {self.iterations}.")


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier of features.

    Attributes:
        weight: float32 `(classes, dim)`, bias: `(classes,)`; they take raw features, the
            standardisation is folded into them.
        single: softmax over classes; else a sigmoid each.
        penalty: the penalty that was chosen.
        losses: penalty -> mean loss on held-out training clips; empty if none could be held out.
    """

    weight: Matrix
    bias: Matrix
    single: bool
    penalty: float
    losses: dict[float, float]

    def probabilities(self, features: Matrix) -> Matrix:
        """`(clips, dim)` -> `(clips, classes)` in [0, 1]."""
        logits = torch.from_numpy(features @ self.weight.T + self.bias)
        return probabilities(logits, self.single)


def fit_probe(
    features: Matrix,
    targets: Mask,
    *,
    single: bool,
    known: Mask | None = None,
    weight: Matrix | None = None,
    groups: Sequence[str] | None = None,
    config: ProbeConfig = ProbeConfig(),
    seed: int = 0,
) -> LinearProbe:
    """Logistic regression (multinomial or one against the rest) on standardised features.

    Minimises mean loss + penalty / 2 |weights|^2 by L-BFGS; biases are free.

    Args:
        features: `(clips, dim)`.
        targets: bool `(clips, classes)`.
        single: exactly one class a clip.
        known: bool `(clips, classes)`; unknown cells cost nothing. Multi-label only.
        weight: `(clips,)` weights of the clips, for unbalanced classes.
        groups: a name for each clip's recording or speaker; clips by default.
        config: the options.
        seed: of the inner folds.

    Raises:
        UserError: single-label clips of fewer than two classes, or clips without a class.
    """
    lessons = Lessons.of(targets, single, known, weight)
    scale = Scale.of(features)
    problem = _Problem(scale(features), lessons)
    fold = inner_folds(targets, groups, config.folds, seed)
    losses = _held_out_losses(problem, fold, config)
    penalty = min(losses, key=lambda p: losses[p]) if losses else float(np.median(config.penalties))
    start = torch.zeros(features.shape[1] + 1, targets.shape[1])
    solution = problem.solve(start, penalty, config.iterations).numpy()
    scaled = (solution[:-1] / scale.std[:, None]).T
    bias = solution[-1] - scaled @ scale.mean
    return LinearProbe(scaled.astype(np.float32), bias.astype(np.float32), single, penalty, losses)


@dataclass(frozen=True)
class _Problem:
    """Features and answers on which weights are fitted or judged."""

    features: Tensor
    lessons: Lessons

    def part(self, keep: Tensor) -> _Problem:
        return _Problem(self.features[keep], self.lessons.part(keep))

    def loss(self, solution: Tensor) -> Tensor:
        """Weighted mean loss of `solution` `(dim + 1, classes)`, whose last row is the bias."""
        return self.lessons.loss(self.features @ solution[:-1] + solution[-1])

    def solve(self, start: Tensor, penalty: float, iterations: int) -> Tensor:
        """The best solution, searched from `start`."""
        solution = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [solution],
            max_iter=iterations,
            history_size=10,
            tolerance_grad=1e-5,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = self.loss(solution) + penalty / 2 * solution[:-1].square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        return solution.detach()


def _held_out_losses(
    problem: _Problem, fold: NDArray[np.int64], config: ProbeConfig
) -> dict[float, float]:
    """Mean loss on the held-out clips of each inner fold, for every penalty."""
    folds = int(fold.max()) + 1
    if folds < 2 or len(config.penalties) < 2:
        return {}
    iterations = max(1, config.iterations // 4)
    losses = dict.fromkeys(sorted(config.penalties, reverse=True), 0.0)
    for number in range(folds):
        held = torch.from_numpy(fold == number)
        rest = problem.part(~held)
        # From strong to weak: each solution starts near the next.
        solution = torch.zeros(problem.features.shape[1] + 1, problem.lessons.targets.shape[1])
        for penalty in losses:
            solution = rest.solve(solution, penalty, iterations)
            losses[penalty] += float(problem.part(held).loss(solution)) / folds
    return losses
