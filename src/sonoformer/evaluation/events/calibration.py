"""Scores that mean what they say: of frames scored 0.8, eight in ten hold the class.

Three ways, class by class, fitted on validation frames. *Temperature* divides the logit by one
number (Guo et al. 2017, arXiv 1706.04599, section 4.2). *Platt* moves it as well (Platt 1999),
which a model needs that was trained to give rare classes more weight than they have. Both keep the
order of the scores. *Isotonic* takes the rising staircase that fits best (pool adjacent violators;
Zadrozny and Elkan 2002), which can mend any bias and needs more data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.frames import FrameScores, known_frames
from sonoformer.files import read_json, write_json
from sonoformer.settings import build, plain

Method = Literal["temperature", "platt", "isotonic"]
_Floats = NDArray[np.float64]

_EDGE = 1e-6  # logits of scores nearer to 0 or 1 are those of this
_MOST_STEPS = 1 << 14  # levels that the staircase is fitted to; neighbouring scores go together


@dataclass(frozen=True)
class ClassCalibration:
    """What is done to the scores of one class; nothing by default."""

    temperature: float = 1.0
    """what logits are divided by; not used with steps"""
    bias: float = 0.0
    """what is added to them then"""
    scores: tuple[float, ...] = ()
    """rising scores between which the staircase is interpolated"""
    shares: tuple[float, ...] = ()
    """the calibrated score at each"""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise UserError(f"temperature: must be above 0; got {self.temperature}.")
        if not abs(self.bias) < np.inf:
            raise UserError(f"bias: must be finite; got {self.bias}.")
        if len(self.scores) != len(self.shares):
            raise UserError("scores, shares: must be equally many.")
        for name in ("scores", "shares"):
            values = np.asarray(getattr(self, name), np.float64)
            if len(values) and not ((np.diff(values) >= 0).all() and 0 <= values.min() <= 1):
                raise UserError(f"{name}: must rise from 0 or more to at most 1.")

    def apply(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated scores in [0, 1], of any shape."""
        if self.scores:
            return np.interp(scores, self.scores, self.shares).astype(np.float32)
        if self.temperature == 1 and self.bias == 0:
            return scores
        return _sigmoid(_logit(scores) / self.temperature + self.bias).astype(np.float32)


@dataclass(frozen=True)
class Calibration:
    """Calibration of a model's classes; classes that are not named stay as they are."""

    classes: dict[str, ClassCalibration] = field(default_factory=dict)
    """by class name"""

    def apply(self, scores: NDArray[np.float32], classes: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated scores `(frames, classes)`; `classes` names the columns."""
        columns = [
            self.classes.get(name, ClassCalibration()).apply(scores[:, i])
            for i, name in enumerate(classes)
        ]
        return np.stack(columns, axis=1) if columns else scores

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, plain(self))

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, is no JSON, or holds what is no calibration.
        """
        return build(cls, read_json(path), str(path))


class Calibrated(NamedTuple):
    """What `calibrate` gives: the calibration, and classes that could not be calibrated."""

    calibration: Calibration
    notes: tuple[str, ...]


def calibrate(
    frames: Sequence[FrameScores], classes: Sequence[str], method: Method = "temperature"
) -> Calibrated:
    """Fit each class on validation frames, known ones only.

    A class of which every known frame is true, or none, says nothing about its scores: it stays as
    it is, and a note says so.

    Raises:
        ValueError: the truth of a recording is not given.
    """
    fitted, notes = {}, []
    for label, name in enumerate(classes):
        scores, truth, _ = known_frames(frames, label)
        if truth.any() and not truth.all():
            fitted[name] = _FITS[method](scores.astype(np.float64), truth)
        else:
            which = "every" if truth.any() else "no"
            notes.append(f"{name}: {which} known frame holds it; its scores are not calibrated.")
    return Calibrated(Calibration(fitted), tuple(notes))


class Level(NamedTuple):
    """A row of a reliability table: frames whose scores lie in a range."""

    low: float
    high: float
    frames: int
    score: float
    """their mean score"""
    share: float
    """share of them that hold the class"""


def reliability(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], levels: int = 10
) -> list[Level]:
    """Frames by ranges of equal width of their scores `(frames,)`; empty ranges are left out."""
    place = np.minimum((scores.astype(np.float64) * levels).astype(np.int64), levels - 1)
    rows = []
    for number in np.unique(place).tolist():
        here = place == number
        mean, share = float(scores[here].astype(np.float64).mean()), float(truth[here].mean())
        rows.append(Level(number / levels, (number + 1) / levels, int(here.sum()), mean, share))
    return rows


def calibration_error(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], levels: int = 10
) -> float:
    """Expected calibration error: mean over frames of |mean score - share| of their range.

    NaN without frames. In [0, 1]; small for a rare class whatever its scores.
    """
    rows = reliability(scores, truth, levels)
    total = sum(row.frames for row in rows)
    gaps = sum(row.frames * abs(row.score - row.share) for row in rows)
    return gaps / total if total else float("nan")


def _temperature(scores: _Floats, truth: NDArray[np.bool_]) -> ClassCalibration:
    """The temperature of least log loss; the loss is convex in its inverse (Newton's method)."""
    logits, slope = _logit(scores), 1.0
    low, high = 1e-3, 1e3
    for _ in range(60):
        p = _sigmoid(slope * logits)
        gradient = float(((p - truth) * logits).mean())
        low, high = (slope, high) if gradient < 0 else (low, slope)
        curvature = float((p * (1 - p) * logits**2).mean())
        step = slope - gradient / curvature if curvature > 0 else low
        # Newton may leap out of what is known to hold the minimum: then the middle is next.
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - slope) < 1e-10 * slope:
            break
        slope = following
    return ClassCalibration(temperature=1 / slope)


def _platt(scores: _Floats, truth: NDArray[np.bool_]) -> ClassCalibration:
    """Slope and offset of least log loss, by Newton's method with halved steps (Lin et al. 2007).

    Truth is softened by one frame on each side, as Platt does, so that scores which part the frames
    without an error do not make it infinite.
    """
    there = int(truth.sum())
    soft = np.where(truth, (there + 1) / (there + 2), 1 / (len(truth) - there + 2))
    inputs = np.stack([_logit(scores), np.ones(len(scores))])

    def loss(weights: _Floats) -> float:
        z = weights @ inputs
        return float((np.logaddexp(0, z) - soft * z).mean())

    weights = np.array([1.0, 0.0])
    for _ in range(100):
        p = _sigmoid(weights @ inputs)
        gradient = inputs @ (p - soft) / len(soft)
        curvature = (inputs * (p * (1 - p))) @ inputs.T / len(soft) + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        before = loss(weights)
        while size > 1e-10 and loss(weights - size * step) > before:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    if weights[0] < 1e-3:  # the order would be turned round: say how often the class is there
        return ClassCalibration(temperature=1e3, bias=float(_logit(soft.mean(keepdims=True))[0]))
    return ClassCalibration(temperature=1 / float(weights[0]), bias=float(weights[1]))


def _isotonic(scores: _Floats, truth: NDArray[np.bool_]) -> ClassCalibration:
    order = np.argsort(scores, kind="stable")
    scores, truth = scores[order], truth[order]
    level = np.cumsum(np.append(0, np.diff(scores) != 0))
    if level[-1] >= _MOST_STEPS:
        level = level * _MOST_STEPS // (level[-1] + 1)
    heads = np.flatnonzero(np.append(True, np.diff(level) != 0))
    lasts = np.append(heads[1:], len(scores)) - 1
    counts = np.diff(np.append(heads, len(scores)))
    sums = np.add.reduceat(truth.astype(np.float64), heads)
    blocks = pooled(sums, counts)
    # A block begins at its lowest score and ends at its highest.
    first, last, shares = [], [], []
    for begin, end, share in blocks:
        first.append(float(scores[heads[begin]]))
        last.append(float(scores[lasts[end]]))
        shares.append(share)
    places = [place for pair in zip(first, last, strict=True) for place in pair]
    doubled = [share for share in shares for _ in range(2)]
    # A block of one score is one point.
    keep = [i for i, p in enumerate(places) if i % 2 == 0 or p != places[i - 1]]
    return ClassCalibration(
        scores=tuple(places[i] for i in keep), shares=tuple(doubled[i] for i in keep)
    )


def pooled(sums: _Floats, counts: NDArray[np.int64] | _Floats) -> list[tuple[int, int, float]]:
    """Pool adjacent violators: rising means of neighbouring groups.

    Args:
        sums, counts: `(n,)` of each group, in the order in which means must not fall.

    Returns:
        Blocks as (first group, last group, mean).
    """
    blocks: list[tuple[int, float, float]] = []
    for number, (total, count) in enumerate(zip(sums.tolist(), counts.tolist(), strict=True)):
        begin = number
        while blocks and blocks[-1][1] * count >= total * blocks[-1][2]:
            begin, more, others = blocks.pop()
            total, count = total + more, count + others
        blocks.append((begin, total, count))
    ends = [block[0] - 1 for block in blocks[1:]] + [len(sums) - 1]
    return [(b, end, total / count) for (b, total, count), end in zip(blocks, ends, strict=True)]


def _logit(scores: NDArray[np.float32] | _Floats) -> _Floats:
    p = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p) - np.log1p(-p))


def _sigmoid(x: _Floats) -> _Floats:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


_FITS: dict[Method, Callable[[_Floats, NDArray[np.bool_]], ClassCalibration]] = {
    "temperature": _temperature,
    "platt": _platt,
    "isotonic": _isotonic,
}
