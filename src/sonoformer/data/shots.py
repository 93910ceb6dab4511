"""A few clips of each class: what is left to train on when labels are dear."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.keys import numpy_generator
from sonoformer.data.manifest import Manifest
from sonoformer.data.splits import group_index
from sonoformer.errors import UserError


@dataclass(frozen=True, eq=False)
class Shots:
    """A few clips of each class.

    Attributes:
        rows: int64 row numbers, ascending.
        short: class -> clips, of the classes that have fewer than were asked for.
    """

    rows: NDArray[np.int64]
    short: dict[str, int]


def few_shots(manifest: Manifest, shots: int, seed: int = 0) -> Shots:
    """Draw `shots` clips of each class, from as many groups as there are.

    A draw of more clips with the same seed holds all clips of a draw of fewer. A clip of several
    classes counts for each of them. Reviewed clips of no class are drawn as if that were one. Clips
    of a group, and of a file, share a site or a speaker: a class gets a second clip of a group only
    after one of every group that has it.

    Args:
        manifest: the clips to draw from, such as the training part.
        shots: clips of each class; a class with fewer gives all that it has.
        seed: another seed gives other clips.

    Raises:
        UserError: `shots` is below 1.
    """
    if shots < 1:
        raise UserError(f"shots: must be at least 1; got {shots}.")
    group = group_index(manifest)
    chosen: set[int] = set()
    short = {}
    for name, rows in _members(manifest).items():
        chosen.update(_spread(rows, group, seed, name)[:shots].tolist())
        if name and len(rows) < shots:
            short[name] = len(rows)
    return Shots(np.array(sorted(chosen), np.int64), short)


def _members(manifest: Manifest) -> dict[str, NDArray[np.int64]]:
    """Class -> its rows; the empty name stands for rows that are known to lack some class."""
    table = manifest.table.with_row_index("row")
    empty = pl.col("labels").list.len() == 0
    said = pl.col("reviewed") | (pl.col("negatives").list.len() > 0)
    without = table.filter(empty & said)["row"].to_numpy().astype(np.int64)
    pairs = table.select("row", "labels").explode("labels").drop_nulls("labels").unique()
    found = {
        str(name): np.sort(part["row"].to_numpy().astype(np.int64))
        for (name,), part in pairs.group_by("labels")
    }
    return {**dict(sorted(found.items())), **({"": without} if len(without) else {})}


def _spread(
    rows: NDArray[np.int64], group: NDArray[np.int64], seed: int, name: str
) -> NDArray[np.int64]:
    """The rows in random order, first one of each group, then a second of each, and so on."""
    shuffled = numpy_generator(seed, "shots", name).permutation(rows)
    met: Counter[int] = Counter()
    turn = []
    for row in shuffled:
        turn.append(met[group[row]])
        met[group[row]] += 1
    return shuffled[np.argsort(turn, kind="stable")]
