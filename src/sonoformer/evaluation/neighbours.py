"""The nearest-neighbour probe: what the geometry of frozen features says without any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sonoformer.errors import UserError
from sonoformer.evaluation.inner import Mask, Matrix, Scale, inner_folds


@dataclass(frozen=True)
class NeighbourConfig:
    """How neighbours vote."""

    neighbours: tuple[int, ...] = (1, 3, 5, 10, 20)
    """How many of them vote; the number is chosen inside the training clips."""
    temperature: float = 0.07
    """A vote weighs exp(cosine / temperature)."""
    folds: int = 4
    """Parts of the training clips, by group, for choosing the number."""

    def __post_init__(self) -> None:
        if not self.neighbours or min(self.neighbours) < 1:
            raise UserError(f"neighbours: each must be at least 1; got {self.neighbours}.")
        if self.temperature <= 0:
            raise UserError(f"temperature: must be above 0; got {self.temperature}.")
        if self.folds < 2:
            raise UserError(f"folds: must be at least 2; got {self.folds}.")


@dataclass(frozen=True, eq=False)
class NeighbourProbe:
    """Remembered clips.

    Attributes:
        features: `(clips, dim)`, targets: `(clips, classes)`, of the training clips.
        neighbours: how many vote.
        temperature: of the votes.
        right: number of neighbours -> weighted share right on held-out training clips; empty if
            none could be held out.
    """

    features: Matrix
    targets: Mask
    neighbours: int
    temperature: float
    right: dict[int, float]

    def probabilities(self, features: Matrix) -> Matrix:
        """`(clips, dim)` -> `(clips, classes)` in [0, 1]."""
        return nearest_neighbours(
            self.features,
            self.targets,
            features,
            neighbours=self.neighbours,
            temperature=self.temperature,
        )


def fit_neighbours(
    features: Matrix,
    targets: Mask,
    *,
    weight: Matrix | None = None,
    groups: Sequence[str] | None = None,
    config: NeighbourConfig = NeighbourConfig(),
    seed: int = 0,
) -> NeighbourProbe:
    """Remember single-label clips; the number of neighbours is the one most often right on clips
    held out of them.

    Args:
        features: `(clips, dim)`.
        targets: bool `(clips, classes)`.
        weight: `(clips,)`, of being right about a clip.
        groups: a name for each clip's recording or speaker; clips by default.
        config: the options.
        seed: of the inner folds.
    """
    numbers = sorted(set(config.neighbours))
    fold = inner_folds(targets, groups, config.folds, seed)
    right = dict.fromkeys(numbers, 0.0)
    if fold.max() == 0 or len(numbers) == 1:
        middle = numbers[len(numbers) // 2]
        return NeighbourProbe(features, targets, middle, config.temperature, {})
    share = np.ones(len(features)) if weight is None else weight / weight.mean()
    for part in range(int(fold.max()) + 1):
        held = fold == part
        for number in numbers:
            rest = NeighbourProbe(
                features[~held], targets[~held], number, config.temperature, {}
            ).probabilities(features[held])
            hit = targets[held][np.arange(int(held.sum())), rest.argmax(1)]
            right[number] += float((hit * share[held]).sum()) / len(features)
    best = max(numbers, key=lambda number: right[number])
    return NeighbourProbe(features, targets, best, config.temperature, right)


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
    scale = Scale.of(features)
    bank, asked = (F.normalize(scale(x)) for x in (features, queries))
    labels, counts = (torch.from_numpy(x.astype(np.float32)) for x in (targets & known, known))
    scores: list[Tensor] = []
    for block in asked.split(4096):
        similarity, index = (block @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        votes = ((similarity - similarity[:, :1]) / temperature).exp().unsqueeze(-1)
        scores.append(
            (votes * labels[index]).sum(1) / (votes * counts[index]).sum(1).clamp_min(1e-9)
        )
    return torch.cat(scores).numpy()
