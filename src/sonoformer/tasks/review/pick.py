"""Which candidates a person is asked about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.keys import key, uniforms
from sonoformer.errors import UserError

_STRATA = 5
Spans = dict[tuple[str, int | None], list[tuple[float, float]]]
"""Stretches by recording and channel."""


@dataclass(frozen=True)
class PickConfig:
    """What is asked."""

    pick: Literal["uncertain", "top", "stratified"] = "uncertain"
    """uncertain: scores nearest to `threshold`, which teach a model most; top: the highest, to
    check what it finds; stratified: as many of each fifth of the range of scores, to learn how
    often it is right at which score."""
    per_class: int = 20
    """Clips of each class at most."""
    threshold: float = 0.5
    """uncertain: the score at which a class counts as present."""
    classes: tuple[str, ...] = ()
    """Classes to ask about; all by default."""

    def __post_init__(self) -> None:
        if self.pick not in ("uncertain", "top", "stratified"):
            raise UserError(f"pick: must be uncertain, top or stratified; got {self.pick!r}.")
        if self.per_class < 1:
            raise UserError(f"per_class: must be at least 1; got {self.per_class}.")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold: must lie between 0 and 1; got {self.threshold}.")


def picked(found: pl.DataFrame, config: PickConfig, seed: int, known: Spans) -> pl.DataFrame:
    """The candidates of one class to ask about, in the order in which they were chosen.

    Of candidates that overlap or touch only the first is taken, so that windows of one event do
    not all come; equal scores are drawn by seed.

    Args:
        found: candidates of one class, an events table with scores.
        config: the options.
        seed: of draws.
        known: stretches that need no asking.
    """
    if found.is_empty():
        return found
    label = str(found["label"][0])
    score = found["score"].to_numpy()
    chance = uniforms(key(seed, "review", label), len(score))
    taken: Spans = defaultdict(list, {place: list(spans) for place, spans in known.items()})
    places = found.select("path", "start", "end", "channel").rows()
    rows = []
    for row in _order(score, chance, config):
        path, start, end, channel = places[row]
        # What was said of the mean of all channels was said of each.
        spans = [*taken[path, channel], *known.get((path, None), ())]
        if any(start <= other[1] and end >= other[0] for other in spans):
            continue
        taken[path, channel].append((start, end))
        rows.append(row)
        if len(rows) == config.per_class:
            break
    return found[rows]


def _order(score: NDArray[np.float64], chance: NDArray, config: PickConfig) -> Iterable[int]:
    """Rows from the first to ask about to the last."""
    if config.pick == "top":
        return [int(row) for row in np.lexsort((chance, -score))]
    if config.pick == "uncertain":
        return [int(row) for row in np.lexsort((chance, np.abs(score - config.threshold)))]
    drawn = np.argsort(chance, kind="stable")
    low, high = float(score.min()), float(score.max())
    stratum = ((score - low) / max(high - low, 1e-12) * _STRATA).astype(int).clip(0, _STRATA - 1)
    strata = [drawn[stratum[drawn] == number].tolist() for number in range(_STRATA)]
    return [row for turn in zip_longest(*strata) for row in turn if row is not None]
