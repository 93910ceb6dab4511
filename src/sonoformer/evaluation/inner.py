"""What all probes share: parts of the training clips to choose on, scaling, and the loss."""

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
Folds = NDArray[np.int64]


def inner_folds(targets: Mask, groups: Sequence[str] | None, folds: int, seed: int) -> Folds:
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


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation of each feature of the training clips."""

    mean: Matrix
    std: Matrix

    @classmethod
    def of(cls, features: Matrix) -> Scale:
        """Over the first axis; the others are features."""
        mean, std = features.mean(0), features.std(0)
        # A feature that never varies says nothing; it must not divide by zero either.
        still = std <= 1e-6 * max(1e-12, float(std.max()))
        return cls(mean, np.where(still, 1.0, std).astype(np.float32))

    def __call__(self, features: Matrix) -> Tensor:
        """Standardised, as a tensor of the same shape."""
        return torch.from_numpy(((features - self.mean) / self.std).astype(np.float32))


@dataclass(frozen=True)
class Lessons:
    """The right answers of some clips.

    Attributes:
        targets: float `(clips, classes)` of 0 and 1.
        known: bool `(clips, classes)`; unknown cells cost nothing (several labels only).
        weight: `(clips,)`.
        single: exactly one class a clip: softmax, else a sigmoid each.
    """

    targets: Tensor
    known: Tensor
    weight: Tensor
    single: bool

    @classmethod
    def of(cls, targets: Mask, single: bool, known: Mask | None, weight: Matrix | None) -> Lessons:
        """From arrays; all known and of equal weight by default.

        Raises:
            UserError: single-label clips of fewer than two classes, or clips without a class.
        """
        if single and (targets.any(0).sum() < 2 or not targets.any(1).all()):
            present = int(targets.any(0).sum())
            raise UserError(
                f"the training clips hold {present} class(es); a classifier needs clips of two "
                "classes, each clip with its label"
            )
        return cls(
            torch.from_numpy(targets.astype(np.float32)),
            torch.from_numpy(np.ones_like(targets) if known is None else known | targets),
            torch.ones(len(targets)) if weight is None else torch.from_numpy(weight).float(),
            single,
        )

    def part(self, keep: Tensor) -> Lessons:
        """Some of the clips, by mask or by number."""
        return Lessons(self.targets[keep], self.known[keep], self.weight[keep], self.single)

    def loss(self, logits: Tensor) -> Tensor:
        """Weighted mean loss of logits `(clips, classes)`."""
        if self.single:
            each = -(logits.log_softmax(1) * self.targets).sum(1)
            return (each * self.weight).sum() / self.weight.sum()
        each = F.binary_cross_entropy_with_logits(logits, self.targets, reduction="none")
        cells = self.known * self.weight[:, None]
        # A sum over classes, so that a penalty means the same as with one class.
        return ((each * cells).sum(0) / cells.sum(0).clamp_min(1e-9)).sum()


def probabilities(logits: Tensor, single: bool) -> Matrix:
    """`(clips, classes)` in [0, 1]: softmax over classes, or a sigmoid each."""
    return (logits.softmax(1) if single else logits.sigmoid()).numpy()
