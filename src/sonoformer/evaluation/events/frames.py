"""Scores of single frames: average precision and ROC-AUC, over all frames and by recording.

As Geldenhuys and Niesler (arXiv 2410.12082) score detection: the area below the precision-recall
steps over the frames of all test recordings together. Frames of which nobody knows whether they
hold a class do not count for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.events.answers import EventAnswers, Index
from sonoformer.evaluation.events.intersection import merged
from sonoformer.evaluation.events.outcomes import Values, Weights
from sonoformer.evaluation.metrics import precision_area, roc_area

_MOST_STEPS = 4096
"""Thresholds of a resampled curve; with more scores than that, neighbours go together."""


@dataclass(frozen=True, eq=False)
class FrameScores:
    """The scores of a recording, frame by frame, and what is true where that is known.

    Attributes:
        path: the recording.
        scores: float32 `(frames, classes)` in [0, 1].
        step: seconds a frame.
        start: seconds at which the first frame begins.
        truth: bool `(frames, classes)`; false where it is absent or not known.
        known: bool `(frames, classes)`; all known by default.
        end: seconds at which the recording ends; the last frame's end by default.
    """

    path: str
    scores: NDArray[np.float32]
    step: float
    start: float = 0.0
    truth: NDArray[np.bool_] | None = None
    known: NDArray[np.bool_] | None = None
    end: float | None = None

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.start + len(self.scores) * self.step if self.end is None else self.end


def with_truth(frames: FrameScores, answers: EventAnswers, cover: float = 0.5) -> FrameScores:
    """The same scores beside the true events of `answers`.

    Args:
        frames: scores with the classes of `answers` as columns.
        answers: of which truth and reviewed stretches count.
        cover: share of a frame that events of a class must cover to make it true.
    """
    item = answers.paths.index(frames.path)
    edges = frames.start + np.arange(len(frames.scores) + 1) * frames.step
    truth = np.zeros(frames.scores.shape, bool)
    here = merged(answers.true.take(answers.true.item == item))
    for label in np.unique(here.label):
        mine = here.take(here.label == label)
        lengths = mine.end - mine.start
        before = np.concatenate([[0.0], np.cumsum(lengths)])
        times = np.stack([mine.start, mine.end], 1).ravel()
        sums = np.stack([before[:-1], before[1:]], 1).ravel()
        share = np.diff(np.interp(edges, times, sums)) / frames.step
        truth[:, label] = share >= cover - 1e-9
    middles = (edges[:-1] + edges[1:]) / 2
    known = np.broadcast_to(answers.known_at(item, middles)[:, None], truth.shape)
    return replace(frames, truth=truth & known, known=known)


@dataclass(frozen=True, eq=False)
class FrameCurve:
    """Frames of one class by falling score, counted by recording.

    Attributes:
        positive, passed: `(recordings, thresholds)` true frames, and all, new at each threshold.
    """

    positive: Values
    passed: Values

    def average_precision(self, weights: Weights | None = None) -> Values:
        """`(draws,)`; NaN without a true frame."""
        return precision_area(*self._sums(weights))

    def auc(self, weights: Weights | None = None) -> Values:
        """`(draws,)`; NaN unless there are true frames and others."""
        return roc_area(*self._sums(weights))

    def _sums(self, weights: Weights | None) -> tuple[Values, Values]:
        if weights is None:
            weights = np.ones((1, len(self.positive)))
        hits, passed = weights @ self.positive, weights @ self.passed
        return np.cumsum(hits, axis=1), np.cumsum(passed, axis=1)


def frame_curve(frames: Sequence[FrameScores], label: int, most: int = _MOST_STEPS) -> FrameCurve:
    """Count the frames of a class at each score, recording by recording.

    Args:
        frames: a recording each, with truth.
        label: column.
        most: thresholds at most; frames of neighbouring scores go together.

    Raises:
        ValueError: the truth of a recording is not given.
    """
    scores, truth, item = known_frames(frames, label)
    return _counted(scores, truth, item, len(frames), most)


def _pooled(frames: Sequence[FrameScores], label: int) -> FrameCurve:
    """All thresholds, recordings not told apart."""
    scores, truth, item = known_frames(frames, label)
    return _counted(scores, truth, np.zeros_like(item), 1, max(1, len(scores)))


def _counted(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], item: Index, rows: int, most: int
) -> FrameCurve:
    order = np.argsort(-scores, kind="stable")
    scores, truth, item = scores[order], truth[order], item[order]
    level = np.cumsum(np.append(0, np.diff(scores) != 0)[: len(scores)])
    count = int(level[-1]) + 1 if len(level) else 1
    if count > most:
        level, count = level * most // count, most
    cells, size = item * count + level, rows * count
    positive = np.bincount(cells, truth, minlength=size).reshape(rows, count)
    passed = np.bincount(cells, minlength=size).reshape(rows, count)
    return FrameCurve(positive.astype(np.float64), passed.astype(np.float64))


def frame_scores(
    frames: Sequence[FrameScores], classes: int, weights: Weights | None = None
) -> tuple[Values, Values]:
    """Average precision and AUC, each `(draws, classes)`, over the frames of all recordings.

    With weights, on at most 4096 thresholds of equally many scores.
    """
    draws = 1 if weights is None else len(weights)
    precision, area = np.full((draws, classes), np.nan), np.full((draws, classes), np.nan)
    for label in range(classes):
        curve = _pooled(frames, label) if weights is None else frame_curve(frames, label)
        precision[:, label] = curve.average_precision(weights)
        area[:, label] = curve.auc(weights)
    return precision, area


def by_recording(frames: Sequence[FrameScores], classes: int) -> tuple[Values, Values]:
    """Average precision and AUC of each recording, each `(recordings, classes)`."""
    values = [frame_scores([one], classes) for one in frames]
    if not values:
        return np.zeros((0, classes)), np.zeros((0, classes))
    precision, area = (np.concatenate(part) for part in zip(*values, strict=True))
    return precision, area


def known_frames(
    frames: Sequence[FrameScores], label: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Index]:
    """Known frames of a class: scores, truth and number of the recording, `(frames,)` each.

    Raises:
        ValueError: the truth of a recording is not given.
    """
    scores, truth, item = [], [], []
    for number, one in enumerate(frames):
        if one.truth is None:
            raise ValueError(f"{one.path}: the truth of its frames is not given")
        keep = slice(None) if one.known is None else one.known[:, label]
        scores.append(one.scores[keep, label])
        truth.append(one.truth[keep, label])
        item.append(np.full(len(scores[-1]), number))
    return np.concatenate(scores), np.concatenate(truth), np.concatenate(item)
