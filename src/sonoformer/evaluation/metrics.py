"""Scores of a classifier, each defined once for any weighting of the clips.

A metric takes the answers and a matrix of clip counts `(resamples, clips)` and gives one value a
resample. Ones give the plain score; the rows of a bootstrap give its whole distribution in a few
matrix products, so that an interval costs little more than the score. The definitions are those
of scikit-learn, class by class; the tests compare with it.

Three rules hold everywhere:
- a class without a positive clip has no recall, no F1 and no average precision. It is left out of
  the mean and named by `absent`; no metric ever becomes NaN through it;
- unlabelled is not negative: where `known` is false, a clip says nothing about a class;
- a clip without any label counts in no single-label score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError

Counts = NDArray[np.float32]
Values = NDArray[np.float64]
Row = dict[str, str | int | float | None]

# Defaults of `Answers`, of which each stands for a whole array.
_ALL_KNOWN = np.ones((1, 1), bool)
_HALF = np.full(1, 0.5, np.float32)

# Counts of one block of resamples, at most; keeps a bootstrap over 10^5 clips in bounded memory.
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier said about labelled clips.

    Attributes:
        classes: class names; the order of the columns.
        scores: float `(clips, classes)`, probabilities in [0, 1].
        targets: bool `(clips, classes)`; true where the class is present.
        single: exactly one class a clip (softmax); else any number of them (sigmoid).
        known: bool `(clips, classes)`; false where nobody said whether the class is present. All
            true by default; a single-label clip with a class is known throughout, without it
            nowhere.
        clips: a name for each clip (path and times); numbers by default.
        groups: a name for each clip's recording, site or speaker: clips of a group are alike, and
            the bootstrap draws whole groups. None: clips are drawn.
        thresholds: `(classes,)`; a multi-label class is predicted from here on. 0.5 by default.
    """

    classes: Sequence[str]
    scores: NDArray[np.float32]
    targets: NDArray[np.bool_]
    single: bool
    known: NDArray[np.bool_] = field(default_factory=lambda: _ALL_KNOWN)
    clips: Sequence[str] = ()
    groups: Sequence[str] | None = None
    thresholds: NDArray[np.float32] = field(default_factory=lambda: _HALF)

    def __post_init__(self) -> None:
        shape = self.scores.shape
        known = np.broadcast_to(True, shape) if self.known is _ALL_KNOWN else self.known
        if self.targets.shape != shape or known.shape != shape:
            raise ValueError(f"targets or known are not shaped as the scores, {shape}")
        if self.single:
            # Exactly one class is right: naming it denies all the others.
            known = np.broadcast_to(self.targets.any(1, keepdims=True), shape)
        thresholds = np.broadcast_to(self.thresholds, shape[1:])
        clips = tuple(self.clips) or tuple(str(i) for i in range(shape[0]))
        defaults = {"known": known | self.targets, "thresholds": thresholds, "clips": clips}
        for name, value in defaults.items():
            object.__setattr__(self, name, value)
        if shape != (len(self.clips), len(self.classes)):
            raise ValueError(
                f"scores {shape} do not fit {len(self.clips)} clips, {len(self.classes)} classes"
            )
        if self.groups is not None and len(self.groups) != shape[0]:
            raise ValueError(f"{len(self.groups)} groups for {shape[0]} clips")
        bad = np.flatnonzero(~np.isfinite(self.scores).all(1))
        if len(bad):
            raise UserError(
                f"the model gives no finite score for {len(bad)} of {shape[0]} clips (the first is "
                f"{self.clips[bad[0]]}); its training diverged: load an earlier checkpoint"
            )

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def labelled(self) -> NDArray[np.bool_]:
        """Bool `(clips,)`: clips that say anything."""
        return np.asarray((self.targets if self.single else self.known).any(1))

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """`(clips,)`: the column of the true class, -1 for a clip without a label."""
        return np.where(self.targets.any(1), self.targets.argmax(1), -1)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """`(clips,)`: the column of the highest score."""
        return self.scores.argmax(1)

    @cached_property
    def decided(self) -> NDArray[np.bool_]:
        """Bool `(clips, classes)`: what the system decides; one class a clip when `single`."""
        if not self.single:
            return self.scores >= self.thresholds
        decided = np.zeros(self.scores.shape, bool)
        decided[np.arange(len(self)), self.predicted] = True
        return decided

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Answers:
        """The answers for some of the clips, by mask or by row number."""
        index = np.arange(len(self))[keep]
        return Answers(
            classes=self.classes,
            scores=self.scores[index],
            targets=self.targets[index],
            single=self.single,
            known=self.known[index],
            clips=tuple(self.clips[i] for i in index),
            groups=None if self.groups is None else tuple(self.groups[i] for i in index),
            thresholds=self.thresholds,
        )


Metric = Callable[[Answers, Counts], Values]


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers about different clips (the test folds of a cross-validation) as one."""
    first = parts[0]
    if any(tuple(p.classes) != tuple(first.classes) or p.single != first.single for p in parts):
        raise UserError("the folds know different classes; give the class list with --classes")
    grouped = all(p.groups is not None for p in parts)
    return Answers(
        classes=first.classes,
        scores=np.concatenate([p.scores for p in parts]),
        targets=np.concatenate([p.targets for p in parts]),
        single=first.single,
        known=np.concatenate([p.known for p in parts]),
        clips=tuple(clip for p in parts for clip in p.clips),
        groups=tuple(g for p in parts for g in p.groups or ()) if grouped else None,
        thresholds=first.thresholds,
    )


def score(metric: Metric, answers: Answers) -> float:
    """The plain score: every clip counts once.

    Raises:
        UserError: there is no labelled clip.
    """
    if not (answers.labelled.any() and answers.targets.any()):
        raise UserError("no labelled clip to evaluate; check the labels and the split")
    return float(metric(answers, np.ones((1, len(answers)), np.float32))[0])


def accuracy(answers: Answers, counts: Counts) -> Values:
    """Share of clips whose highest score is their class (single-label)."""
    right = answers.labelled & (answers.truth == answers.predicted)
    return _ratio(counts @ right.astype(np.float32), counts @ answers.labelled.astype(np.float32))


def balanced_accuracy(answers: Answers, counts: Counts) -> Values:
    """Single-label: mean recall over classes. Multi-label: mean of (recall + specificity) / 2."""
    hit, false, miss = _decisions(answers, counts)
    recall = _ratio(hit, hit + miss)
    if answers.single:
        return _mean(recall)
    rest = counts @ (answers.known & ~answers.targets).astype(np.float32)
    return _mean((recall + _ratio(rest - false, rest)) / 2)


def macro_f1(answers: Answers, counts: Counts) -> Values:
    """Mean over the classes present of the harmonic mean of precision and recall."""
    hit, false, miss = _decisions(answers, counts)
    f1 = _ratio(2 * hit, 2 * hit + false + miss)
    return _mean(np.where(hit + miss > 0, f1, np.nan))


def mean_average_precision(answers: Answers, counts: Counts) -> Values:
    """Mean over the classes present of the area below the precision-recall steps (mAP)."""
    return _mean(average_precision(answers, counts))


def mean_auc(answers: Answers, counts: Counts) -> Values:
    """Mean over classes, each against the rest, of the area below the ROC curve."""
    return _mean(auc(answers, counts))


def average_precision(answers: Answers, counts: Counts) -> Values:
    """`(resamples, classes)`: sum over thresholds of (recall gained) x precision; NaN if absent."""
    return _ranked(answers, counts, precision_area)


def auc(answers: Answers, counts: Counts) -> Values:
    """`(resamples, classes)`: chance that a positive scores above a negative, ties one half."""
    return _ranked(answers, counts, roc_area)


SINGLE: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "mAP": mean_average_precision,
    "AUC": mean_auc,
}
MULTI: dict[str, Metric] = {
    "mAP": mean_average_precision,
    "AUC": mean_auc,
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
}


def metrics_for(answers: Answers) -> dict[str, Metric]:
    """The scores that have a meaning for these answers, the headline first."""
    return SINGLE if answers.single else MULTI


def absent(answers: Answers) -> list[str]:
    """Classes without a positive clip: they are in no mean."""
    present = np.asarray(answers.targets.any(0))
    return [name for name, here in zip(answers.classes, present, strict=True) if not here]


def confusion_matrix(answers: Answers) -> NDArray[np.int64]:
    """`(classes, classes)` clip counts: rows are the truth, columns what was predicted."""
    size = len(answers.classes)
    keep = answers.labelled
    pairs = answers.truth[keep] * size + answers.predicted[keep]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def per_class(answers: Answers) -> list[Row]:
    """A row a class: clips, precision, recall, F1, average precision, AUC; None if undefined."""
    ones = np.ones((1, len(answers)), np.float32)
    hit, false, miss = (part[0] for part in _decisions(answers, ones))
    present = hit + miss > 0
    columns = {
        "precision": _ratio(hit, hit + false),
        "recall": _ratio(hit, hit + miss),
        "f1": np.where(present, _ratio(2 * hit, 2 * hit + false + miss), np.nan),
        "average_precision": average_precision(answers, ones)[0],
        "auc": auc(answers, ones)[0],
    }
    rows: list[Row] = []
    for i, name in enumerate(answers.classes):
        row: Row = {"class": name, "clips": int(hit[i] + miss[i])}
        for column, values in columns.items():
            row[column] = None if np.isnan(values[i]) else float(values[i])
        rows.append(row)
    return rows


def _decisions(answers: Answers, counts: Counts) -> tuple[Values, Values, Values]:
    """Hits, false alarms and misses, each `(resamples, classes)`."""
    known = answers.known & answers.labelled[:, None]
    cells = (
        answers.decided & answers.targets,
        answers.decided & ~answers.targets & known,
        ~answers.decided & answers.targets,
    )
    hit, false, miss = (counts @ cell.astype(np.float32) for cell in cells)
    return hit.astype(np.float64), false.astype(np.float64), miss.astype(np.float64)


def _ranked(answers: Answers, counts: Counts, area: Callable[[Values, Values], Values]) -> Values:
    """An area under a curve of sorted scores, for each resample and class.

    Sorting does not depend on the counts, so it is done once a class.
    """
    result = np.full((len(counts), len(answers.classes)), np.nan)
    block = max(1, _BLOCK_VALUES // max(1, len(answers)))
    for c in range(len(answers.classes)):
        rows = np.flatnonzero(answers.known[:, c] & answers.labelled)
        rows = rows[np.argsort(-answers.scores[rows, c], kind="stable")]
        if not len(rows) or not answers.targets[rows, c].any():
            continue
        sorted_scores = answers.scores[rows, c]
        # Clips of equal score pass the threshold together.
        ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(rows) - 1)
        positive = answers.targets[rows, c].astype(np.float64)
        for start in range(0, len(counts), block):
            weight = counts[start : start + block, rows].astype(np.float64)
            hits = np.cumsum(weight * positive, axis=1)[:, ends]
            result[start : start + block, c] = area(hits, np.cumsum(weight, axis=1)[:, ends])
    return result


def precision_area(hits: Values, passed: Values) -> Values:
    """`(resamples,)`: area below the precision-recall steps.

    Args:
        hits: `(resamples, thresholds)` positives that pass each falling threshold.
        passed: all that pass it.
    """
    gained = np.diff(hits, prepend=0.0, axis=1)
    return _ratio((gained * np.nan_to_num(_ratio(hits, passed))).sum(1), hits[:, -1])


def roc_area(hits: Values, passed: Values) -> Values:
    """`(resamples,)`: area below the ROC curve; arguments as `precision_area`."""
    false = passed - hits
    height = hits - np.diff(hits, prepend=0.0, axis=1) / 2
    area = (np.diff(false, prepend=0.0, axis=1) * height).sum(1)
    return _ratio(area, hits[:, -1] * false[:, -1])


def _ratio(part: Values | Counts, whole: Values | Counts) -> Values:
    """`part / whole` in float64, NaN where `whole` is zero."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean(values: Values) -> Values:
    """Mean over classes `(resamples, classes)` of what is defined; NaN if nothing is."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0.0).sum(1), there.sum(1))
