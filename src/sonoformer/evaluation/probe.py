"""What frozen features know: a linear classifier or nearest neighbours on top of them.

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
from torch.nn import functional as F

from sonoformer.errors import UserError

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


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
        return (logits.softmax(1) if self.single else logits.sigmoid()).numpy()


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
    if single and (targets.any(0).sum() < 2 or not targets.any(1).all()):
        present = int(targets.any(0).sum())
        raise UserError(
            f"the training clips hold {present} class(es); a classifier needs clips of two "
            "classes, each clip with its label"
        )
    mean, std = features.mean(0), features.std(0)
    # A feature that never varies says nothing; it must not divide by zero either.
    std = np.where(std > 1e-6 * max(1e-12, float(std.max())), std, 1.0).astype(np.float32)
    problem = _Problem(
        torch.from_numpy((features - mean) / std),
        torch.from_numpy(targets.astype(np.float32)),
        torch.from_numpy(np.ones_like(targets) if known is None else known | targets),
        torch.ones(len(features)) if weight is None else torch.from_numpy(weight).float(),
        single,
    )
    fold = inner_folds(targets, groups, config.folds, seed)
    losses = _held_out_losses(problem, fold, config)
    penalty = min(losses, key=lambda p: losses[p]) if losses else float(np.median(config.penalties))
    start = torch.zeros(features.shape[1] + 1, targets.shape[1])
    solution = problem.solve(start, penalty, config.iterations).numpy()
    scaled = (solution[:-1] / std[:, None]).T
    bias = solution[-1] - scaled @ mean
    return LinearProbe(scaled.astype(np.float32), bias.astype(np.float32), single, penalty, losses)


def inner_folds(
    targets: Mask, groups: Sequence[str] | None, folds: int, seed: int
) -> NDArray[np.int64]:
    """`(clips,)` fold numbers from 0: groups lie whole in one, classes are spread over them.

    Groups are sorted by the class of their first clip, shuffled inside a class, and dealt in turn.
    Fewer groups than `folds` give fewer folds; one group gives one.
    """
    names = np.arange(len(targets)) if groups is None else np.asarray(groups, dtype=str)
    _, first, unit = np.unique(names, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).random(len(first))
    order = np.lexsort((shuffled, targets[first].argmax(1)))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % min(folds, len(first))
    return fold[unit]


def nearest_neighbours(
    features: Matrix,
    targets: Mask,
    queries: Matrix,
    *,
    known: Mask | None = None,
    neighbours: int = 10,
    temperature: float = 0.07,
) -> Matrix:
    """Scores `(queries, classes)` in [0, 1]: votes of the nearest clips by cosine similarity.

    Features are standardised first; a vote weighs exp(similarity / temperature) (Wu et al. 2018,
    section 3.4), and clips of which a class is not known do not vote on it.
    """
    known = np.ones_like(targets) if known is None else known | targets
    mean, std = features.mean(0), features.std(0)
    std = np.where(std > 0, std, 1)
    bank, asked = (F.normalize(torch.from_numpy((x - mean) / std)) for x in (features, queries))
    labels, counts = (torch.from_numpy(x.astype(np.float32)) for x in (targets & known, known))
    scores = []
    for block in asked.split(4096):
        similarity, index = (block @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        votes = ((similarity - similarity[:, :1]) / temperature).exp().unsqueeze(-1)
        scores.append(
            (votes * labels[index]).sum(1) / (votes * counts[index]).sum(1).clamp_min(1e-9)
        )
    return torch.cat(scores).numpy()


@dataclass(frozen=True)
class _Problem:
    """Features and answers on which weights are fitted or judged."""

    features: Tensor
    targets: Tensor
    known: Tensor
    weight: Tensor
    single: bool

    def part(self, keep: Tensor) -> _Problem:
        return _Problem(
            self.features[keep],
            self.targets[keep],
            self.known[keep],
            self.weight[keep],
            self.single,
        )

    def loss(self, solution: Tensor) -> Tensor:
        """Weighted mean loss of `solution` `(dim + 1, classes)`, whose last row is the bias."""
        logits = self.features @ solution[:-1] + solution[-1]
        if self.single:
            each = -(logits.log_softmax(1) * self.targets).sum(1)
            return (each * self.weight).sum() / self.weight.sum()
        each = F.binary_cross_entropy_with_logits(logits, self.targets, reduction="none")
        cells = self.known * self.weight[:, None]
        # A sum over classes, so that a penalty means the same as with one class.
        return ((each * cells).sum(0) / cells.sum(0).clamp_min(1e-9)).sum()

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
        solution = torch.zeros(problem.features.shape[1] + 1, problem.targets.shape[1])
        for penalty in losses:
            solution = rest.solve(solution, penalty, iterations)
            losses[penalty] += float(problem.part(held).loss(solution)) / folds
    return losses
