"""Answers as a table that people and programs read, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import Answers
from sonoformer.files import atomic

# Columns before the scores.
_HEAD = ("clip", "group", "labels", "unknown", "predicted", "right")


def to_table(answers: Answers, extra: Mapping[str, Sequence[Any]] | None = None) -> pl.DataFrame:
    """A row a clip: name, group, true labels, classes not known, what was decided, and the scores.

    Args:
        answers: the answers.
        extra: further columns, put behind the first; such as the fold.
    """
    names = np.asarray(answers.classes, dtype=object)

    def listed(cells: np.ndarray) -> list[list[str]]:
        return [names[row].tolist() for row in cells]

    wrong = (answers.decided != answers.targets) & answers.known
    columns: dict[str, Any] = {
        "clip": pl.Series(list(answers.clips), dtype=pl.String),
        **(extra or {}),
        "group": pl.Series(answers.groups or [None] * len(answers), dtype=pl.String),
        "labels": pl.Series(listed(answers.targets), dtype=pl.List(pl.String)),
        "unknown": pl.Series(listed(~answers.known), dtype=pl.List(pl.String)),
        "predicted": pl.Series(listed(answers.decided), dtype=pl.List(pl.String)),
        "right": pl.Series([bool(r) for r in ~wrong.any(1)], dtype=pl.Boolean).set(
            pl.Series(~answers.labelled), None
        ),
    }
    scores = {f"score {name}": answers.scores[:, i] for i, name in enumerate(answers.classes)}
    return pl.DataFrame(columns | scores)


def save_predictions(
    path: str | Path, answers: Answers, extra: Mapping[str, Sequence[Any]] | None = None
) -> None:
    """Write `to_table` as Parquet, atomically."""
    with atomic(path) as temporary:
        to_table(answers, extra).write_parquet(temporary)


def load_predictions(
    path: str | Path, *, single: bool, thresholds: Sequence[float] | None = None
) -> Answers:
    """The answers in a table of `save_predictions`.

    Args:
        path: the Parquet file.
        single: exactly one class a clip.
        thresholds: of the classes, for several labels; 0.5 by default.

    Raises:
        UserError: the file is missing, damaged, or no table of predictions.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as predictions ({reason})") from error
    missing = [name for name in _HEAD if name not in table.columns]
    classes = [n.removeprefix("score ") for n in table.columns if n.startswith("score ")]
    if missing or not classes:
        raise UserError(f"{path}: is no table of predictions (it lacks {', '.join(missing)})")
    index = {name: i for i, name in enumerate(classes)}

    def cells(column: str) -> np.ndarray:
        found = np.zeros((table.height, len(classes)), bool)
        for row, names in enumerate(table[column].to_list()):
            found[row, [index[name] for name in names]] = True
        return found

    grouped = table["group"].null_count() == 0
    half = np.full(len(classes), 0.5, np.float32)
    return Answers(
        classes=tuple(classes),
        scores=table.select(f"score {name}" for name in classes).to_numpy().astype(np.float32),
        targets=cells("labels"),
        single=single,
        known=~cells("unknown"),
        clips=tuple(table["clip"].to_list()),
        groups=tuple(table["group"].to_list()) if grouped and table.height else None,
        thresholds=half if thresholds is None else np.asarray(thresholds, np.float32),
    )
