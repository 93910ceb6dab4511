"""Everything that is reported about one system on one set of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import (
    Answers,
    Row,
    absent,
    confusion_matrix,
    metrics_for,
    per_class,
    score,
)
from sonoformer.evaluation.statistics import RESAMPLES, Interval, bootstrap

# How each score is called where people read it.
TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "mAP": "mAP",
    "AUC": "AUC",
}


@dataclass(frozen=True, eq=False)
class Scorecard:
    """Scores with intervals, per-class table, confusion matrix, and what could not be scored.

    Attributes:
        figures: score name -> value and interval; the headline first.
        per_class: a row a class, see `metrics.per_class`.
        confusion: `(classes, classes)` counts, rows truth; None for multi-label answers.
        classes: class names.
        clips: labelled clips that were scored.
        notes: sentences a reader must know: classes without clips, scores without a meaning.
    """

    figures: dict[str, Interval]
    per_class: list[Row]
    confusion: NDArray[np.int64] | None
    classes: tuple[str, ...]
    clips: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `metrics.json`."""
        return {
            "clips": self.clips,
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "per_class": self.per_class,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "classes": list(self.classes),
            "notes": list(self.notes),
        }


def scorecard(
    runs: Answers | Sequence[Answers], *, resamples: int = RESAMPLES, seed: int = 0
) -> Scorecard:
    """Score the answers of one training, or of several seeds about the same clips.

    With several seeds figures and per-class scores are means over them; the confusion matrix
    counts each clip once a seed.

    Raises:
        UserError: no clip has a label.
    """
    runs = [runs] if isinstance(runs, Answers) else list(runs)
    keep = runs[0].labelled
    if not keep.any():
        raise UserError("no labelled clip to evaluate; check the labels and the split")
    unlabelled = int((~keep).sum())
    runs = [run.rows(keep) for run in runs]
    first = runs[0]
    figures, undefined = {}, []
    for name, metric in metrics_for(first).items():
        if np.isnan(score(metric, first)):
            undefined.append(TITLES[name])
            continue
        figures[name] = bootstrap(metric, runs, resamples=resamples, seed=seed)
    return Scorecard(
        figures=figures,
        per_class=_mean_rows([per_class(run) for run in runs]),
        confusion=np.sum([confusion_matrix(run) for run in runs], axis=0) if first.single else None,
        classes=tuple(first.classes),
        clips=len(first),
        notes=tuple(_notes(first, unlabelled, undefined)),
    )


def _mean_rows(tables: list[list[Row]]) -> list[Row]:
    """Per-class rows averaged over trainings, each score over those in which it is defined."""
    rows: list[Row] = []
    for same in zip(*tables, strict=True):
        row = dict(same[0])
        for column in row.keys() - {"class", "clips"}:
            values = [float(v) for other in same if (v := other[column]) is not None]
            row[column] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


def _notes(answers: Answers, unlabelled: int, undefined: list[str]) -> list[str]:
    notes = []
    if unlabelled:
        notes.append(f"{unlabelled} clips carry none of this model's classes and do not count.")
    missing = absent(answers)
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        shown = ", ".join(missing[:8])
        notes.append(f"No test clip holds {shown}{more}: such classes are left out of the means.")
    if undefined:
        notes.append(f"{', '.join(undefined)} cannot be given: it needs clips of two classes.")
    if answers.groups is not None and len(set(answers.groups)) == 1:
        notes.append("All test clips are of one group, so that no interval can be given.")
    rare = int(((answers.targets.sum(0) > 0) & (answers.targets.sum(0) < 5)).sum())
    if rare:
        notes.append(f"{rare} of the classes have fewer than 5 test clips each.")
    return notes
