"""The training cells of the simple baselines: what is known, from the detector's own recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.keys import key, uniforms
from sonoformer.data.sources import ClipSource
from sonoformer.data.strong import Truth
from sonoformer.errors import AudioError, UserError
from sonoformer.tasks.detection.baselines.hearing import CONTEXT, Hearing, Levels, Minute

Problem = Callable[[str, str], None]
Mask = NDArray[np.bool_]
MOST = 100_000
"""Training cells at most: all that hold an event, and of the others a share, weighted by what they
stand for."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Training cells of all recordings.

    Attributes:
        features: `(cells, features)`, see `statistics`.
        mean, quiet: `(cells, bins)` levels, and those of the background.
        present, known: `(cells, classes)`.
        weight: `(cells,)`; how many cells each stands for.
        groups: `(cells,)` number of the recording.
    """

    features: Levels
    mean: Levels
    quiet: Levels
    present: Mask
    known: Mask
    weight: Levels
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.features)


def statistics(minute: Minute) -> Levels:
    """`(cells, features)`: mean levels over the background in each cell and those around it, and
    how much the levels vary inside the cell."""
    around = [minute.shifted(cells) - minute.quiet for cells in range(-CONTEXT, CONTEXT + 1)]
    spread = minute.spread[CONTEXT : CONTEXT + len(minute)]
    return np.concatenate([*around, spread], 1)


def training_cells(
    hearing: Hearing,
    source: ClipSource,
    truth: Truth,
    *,
    seed: int,
    problem: Problem | None = None,
    most: int = MOST,
) -> Cells:
    """The cells of the training recordings in which anything is known.

    Args:
        hearing: how they are heard.
        source, truth: the recordings and what is in them.
        seed: of which cells without events are taken, where there are too many.
        problem: called with (path, reason) for a recording that cannot be read.
        most: cells at most, but all with events are taken.

    Raises:
        UserError: nothing is known that can be heard.
    """
    targets = [
        truth.cells(item, hearing.grid.edges(hearing.cells(source, item)))
        for item in range(len(source))
    ]
    said = [((target >= 0.5) & known, known) for target, known in targets]
    busy = sum(int(present.any(1).sum()) for present, _ in said)
    idle = sum(int((known.any(1) & ~present.any(1)).sum()) for present, known in said)
    share = min(1.0, max(most - busy, most // 10) / max(1, idle))
    parts: list[list[NDArray]] = []
    for item, (present, known) in enumerate(said):
        drawn = uniforms(key(seed, "baselines", item), len(present)) < share
        keep = present.any(1) | (known.any(1) & drawn)
        try:
            parts += _heard(hearing, source, item, present, known, keep, share)
        except AudioError as error:
            if problem is not None:
                problem(str(error.path), error.reason)
    if not parts:
        raise UserError("nothing that is known of the training recordings can be heard")
    return Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _heard(
    hearing: Hearing,
    source: ClipSource,
    item: int,
    present: Mask,
    known: Mask,
    keep: Mask,
    share: float,
) -> list[list[NDArray]]:
    """The fields of `Cells` for each minute of a recording, of the cells to keep."""
    parts: list[list[NDArray]] = []
    for minute in hearing.minutes(source, item):
        rows = np.flatnonzero(keep[minute.first : minute.first + len(minute)])
        if not len(rows):
            continue
        places = rows + minute.first
        weight = np.where(present[places].any(1), 1.0, 1 / share).astype(np.float32)
        quiet = np.repeat(minute.quiet[None], len(rows), 0)
        heard = [statistics(minute)[rows], minute.shifted(0)[rows], quiet]
        parts.append(
            [*heard, present[places], known[places], weight, np.full(len(rows), item, np.int64)]
        )
    return parts
