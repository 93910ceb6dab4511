"""What is trained on and what is tested, under the two protocols.

fixed: the held-out groups of `data.catalogue.held` are tested, all else is trained on. Sets outside
the pool have no such groups and are tested by their folds under either protocol.

folds: every fold is tested by what was trained on the others. An encoder pretrained on the pool has
heard those clips, without labels: such results are transductive.

Under both, training clips that are copies of a test clip (the same bytes) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.catalogue.held import held_paths
from sonoformer.data.fingerprint import duplicates
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.suite.config import Protocol
from sonoformer.suite.tasks import SuiteTask


@dataclass(frozen=True, eq=False)
class Turn:
    """Rows of a task's manifest.

    Attributes:
        name: what is tested.
        train, test: row numbers.
        copies: training rows left out because they are copies of test clips.
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    copies: int = 0


def turns_of(task: SuiteTask, manifest: Manifest, protocol: Protocol) -> list[Turn]:
    """The turns of a task.

    Raises:
        UserError: the table has nothing to test on, or nothing to learn from.
    """
    held = _held(task, manifest, protocol)
    found = [_turn(manifest, name, test) for name, test in held]
    for turn in found:
        if not len(turn.train) or not len(turn.test):
            raise UserError(
                f"{manifest.source}: nothing to learn from or to test on where {turn.name} is "
                "tested; it needs clips of at least two folds"
            )
    return found


def _held(
    task: SuiteTask, manifest: Manifest, protocol: Protocol
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Name -> which rows are tested."""
    table = manifest.table
    if task.pooled and protocol == "fixed":
        paths = held_paths(task.set, table)
        return [("held out", table["path"].is_in(list(paths)).to_numpy())]
    if task.turn == "half":
        return [("5-9", (table["half"] == "5-9").to_numpy())]
    if task.turn == "fold" and table["fold"].is_null().all():
        if table["split"].is_null().all():
            raise UserError(
                f"{manifest.source}: has neither a fold nor a split column; make one by "
                "`sonoformer data split`"
            )
        return [("test", (table["split"] == "test").fill_null(False).to_numpy())]
    column = table[task.turn].cast(pl.String)
    return [
        (name, (column == name).fill_null(False).to_numpy()) for name in manifest.values(task.turn)
    ]


def _turn(manifest: Manifest, name: str, test: NDArray[np.bool_]) -> Turn:
    # A table's own validation part takes no part: hyperparameters are chosen inside training.
    labelled = (manifest.table["labels"].list.len() > 0).to_numpy()
    apart = (manifest.table["split"] == "validation").fill_null(False).to_numpy()
    train = ~test & labelled & ~apart
    paths = np.array(manifest.paths, dtype=object)
    tested = list(dict.fromkeys(paths[test & labelled].tolist()))
    rest = list(dict.fromkeys(paths[train].tolist()))
    copies = {
        path for path, first in duplicates([*tested, *rest]).items() if first in set(tested)
    } - set(tested)
    clean = train & ~np.isin(paths, list(copies))
    return Turn(
        name,
        np.flatnonzero(clean),
        np.flatnonzero(test & labelled),
        int(train.sum() - clean.sum()),
    )
