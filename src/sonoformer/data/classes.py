"""Labels as numbers: class lists, target matrices with what is known, and weights.

An unlabelled class is not a negative. Three things can be known of a class in a stretch: it is
present (in `labels`), it is absent (in `negatives`, or in neither list of a reviewed stretch), or
nothing (in neither list of a stretch that nobody reviewed). Loss and metrics take only what is
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


def read_classes(path: str | Path) -> tuple[str, ...]:
    """A class list, one name a line, in that order.

    Raises:
        UserError: the file cannot be read, is empty, or repeats a name.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of classes ({error})") from error
    names = [line.strip() for line in lines if line.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or repeated:
        problem = f"the class {repeated[0]!r} stands twice" if repeated else "no classes"
        raise UserError(f"{path}: {problem}")
    return tuple(names)


def targets(
    manifest: Manifest, classes: Sequence[str], *, multi_label: bool = False, strict: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and what is known of them.

    Args:
        manifest: the rows. Tables of labelled clips count as reviewed unless they say otherwise.
        classes: the class list; the order gives the columns.
        multi_label: several classes may be present at once. If not, a row with a label is known
            in full: its class is present and all others are absent.
        strict: refuse labels that are not in `classes`. If not, a row with such a label is known
            only in its other classes (multi-label) or not at all (single-label).

    Returns:
        float32 `(rows, classes)` of 0 and 1, and bool `(rows, classes)`.

    Raises:
        UserError: an unknown label, or more than one label in a row of a single-label task.
    """
    table = manifest.table
    present, strange = _scatter(table["labels"], classes)
    absent, _ = _scatter(table["negatives"], classes)
    if strict and strange.any():
        _refuse_strange(manifest, classes)
    if not multi_label:
        count = table["labels"].list.len().to_numpy()
        if (count > 1).any():
            row = int(np.argmax(count > 1))
            raise UserError(
                f"{manifest.source}: row {row + 1} has {count[row]} labels but the task allows "
                "one; choose the multi-label task"
            )
        full = ((count == 1) & ~strange)[:, None]
        known = full | ((count == 0)[:, None] & absent)
        return present.astype(np.float32), known
    reviewed = table["reviewed"].to_numpy()[:, None]
    return present.astype(np.float32), present | absent | np.broadcast_to(reviewed, present.shape)


def unknown_labels(manifest: Manifest, classes: Sequence[str]) -> dict[str, int]:
    """Labels that are not in `classes`, with the number of rows that have them."""
    counts = manifest.table["labels"].explode().drop_nulls().value_counts()
    known = set(classes)
    pairs = zip(counts["labels"].to_list(), counts["count"].to_list(), strict=True)
    return {name: count for name, count in sorted(pairs) if name not in known}


def class_weights(target: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Weight of each class in the loss, inversely proportional to how often it is present.

    Rows / (classes x presences), so that the mean over rows of a single-label set is 1 (the rule
    that scikit-learn calls balanced). A class that never occurs has weight 1.

    Args:
        target, known: `(rows, classes)` from `targets`.
    """
    counts = (target * known).sum(0)
    labelled = counts.sum()
    weights = np.ones(target.shape[1])
    there = counts > 0
    weights[there] = labelled / (there.sum() * counts[there])
    return weights


def sampling_weights(target: np.ndarray) -> np.ndarray:
    """Weight of each row in sampling so that rare classes are met as often as common ones.

    PSLA (Gong et al. 2021, section III-B): the sum over a row's labels of 1000 / (count + 0.01).
    Rows without labels would never be drawn by that rule; here they weigh as much as the lightest
    labelled row, so that reviewed silence is still learned.

    Args:
        target: `(rows, classes)` of 0 and 1.

    Returns:
        float64 `(rows,)`.
    """
    weights = target @ (1000.0 / (target.sum(0) + 0.01))
    labelled = weights > 0
    weights[~labelled] = weights[labelled].min() if labelled.any() else 1.0
    return weights


def _scatter(lists: pl.Series, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """`(rows, classes)` membership, and `(rows,)` whether a name is in no class."""
    index = {name: i for i, name in enumerate(classes)}
    frame = lists.alias("name").to_frame().with_row_index("row").explode("name").drop_nulls("name")
    column = frame["name"].replace_strict(index, default=-1, return_dtype=pl.Int64).to_numpy()
    row = frame["row"].to_numpy().astype(np.int64)
    member = np.zeros((len(lists), len(classes)), bool)
    strange = np.zeros(len(lists), bool)
    member[row[column >= 0], column[column >= 0]] = True
    strange[row[column < 0]] = True
    return member, strange


def _refuse_strange(manifest: Manifest, classes: Sequence[str]) -> None:
    names = unknown_labels(manifest, classes)
    shown = ", ".join(f"{name!r} ({count} rows)" for name, count in list(names.items())[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    known = ", ".join(list(classes)[:8]) + (", ..." if len(classes) > 8 else "")
    raise UserError(f"{manifest.source}: labels outside the class list: {shown}{more} ({known})")
