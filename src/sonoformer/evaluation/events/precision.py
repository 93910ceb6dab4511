"""The threshold from which on so many of the decisions are right, with how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import Index
from sonoformer.evaluation.events.frames import FrameScores, known_frames
from sonoformer.evaluation.events.outcomes import Outcomes
from sonoformer.evaluation.statistics import RESAMPLES, Interval

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PreciseThreshold:
    """The lowest threshold at which a class reaches a precision.

    Attributes:
        label: the class.
        wanted: the precision asked for.
        threshold: with its interval over draws of recordings; None where no threshold reaches it.
        precision, recall: at that threshold, with their intervals over the same draws, in which the
            threshold stays.
        note: why there is no threshold, or no interval.
    """

    label: str
    wanted: float
    threshold: Interval | None = None
    precision: Interval | None = None
    recall: Interval | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `metrics.json`."""
        parts = {name: getattr(self, name) for name in ("threshold", "precision", "recall")}
        values = {name: None if part is None else part.to_dict() for name, part in parts.items()}
        return {"class": self.label, "wanted": self.wanted, **values, "note": self.note}


def frame_thresholds(
    frames: Sequence[FrameScores],
    classes: Sequence[str],
    wanted: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[PreciseThreshold]:
    """For each class, over the known frames of validation recordings."""
    result = []
    for label, name in enumerate(classes):
        scores, truth, item = known_frames(frames, label)
        result.append(
            precise_threshold(
                name,
                scores.astype(np.float64),
                truth,
                item,
                int(truth.sum()),
                wanted,
                resamples=resamples,
                seed=seed,
            )
        )
    return result


def event_thresholds(
    outcomes: Outcomes,
    classes: Sequence[str],
    wanted: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[PreciseThreshold]:
    """For each class, over found events that are right or wrong by some rule."""
    result = []
    for label, name in enumerate(classes):
        here = outcomes.label == label
        truths = int(outcomes.truths[:, label].sum())
        columns = (outcomes.score[here], outcomes.hit[here], outcomes.item[here])
        result.append(
            precise_threshold(name, *columns, truths, wanted, resamples=resamples, seed=seed)
        )
    return result


def precise_threshold(
    label: str,
    scores: _Floats,
    right: NDArray[np.bool_],
    item: Index,
    positives: int,
    wanted: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PreciseThreshold:
    """The lowest threshold with enough precision.

    Precision is that of everything scored at the threshold or above; it need not rise with the
    threshold, so that a higher one may have less.

    Args:
        label: class name, for the result.
        scores, right, item: `(n,)` score, whether it is right, number of its recording.
        positives: how many there are to find, for the recall.
        wanted: precision in (0, 1].
        resamples: draws of recordings behind the intervals.
        seed: of the draws.

    Raises:
        UserError: `wanted` is no precision.
    """
    if not 0 < wanted <= 1:
        raise UserError(f"precision: must be above 0 and at most 1; got {wanted}.")
    if not positives:
        return PreciseThreshold(label, wanted, note="no true one to judge by")
    order = np.argsort(-scores, kind="stable")
    scores, right, item = scores[order], right[order], item[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)[: len(scores)]
    ones = np.ones(len(scores))
    place = _lowest(right, ones, ends, wanted)
    if place is None:
        return PreciseThreshold(label, wanted, note="no threshold reaches this precision")
    last = ends[place]
    hits = float(right[: last + 1].sum())
    values = (float(scores[last]), hits / (last + 1), hits / positives)
    samples = _samples(scores, right, item, ends, last, positives, wanted, resamples, seed)
    units = len(np.unique(item))
    over = f"{units:,} recording{'' if units == 1 else 's'}"
    if samples is None:
        threshold, precision, recall = (Interval(value, over=over) for value in values)
        note = "one recording allows no interval"
        return PreciseThreshold(label, wanted, threshold, precision, recall, note)
    columns = zip(values, samples.T, strict=True)
    threshold, precision, recall = (Interval(v, *_ends(column), over) for v, column in columns)
    lost = int(np.isinf(samples[:, 0]).sum())
    note = f"{lost / resamples:.0%} of the draws never reach this precision" if lost else ""
    return PreciseThreshold(label, wanted, threshold, precision, recall, note)


def _lowest(right: NDArray[np.bool_], weight: _Floats, ends: Index, wanted: float) -> int | None:
    """Number of the lowest threshold whose precision is enough."""
    hits, passed = np.cumsum(weight * right)[ends], np.cumsum(weight)[ends]
    enough = np.flatnonzero((hits >= wanted * passed - 1e-9) & (hits > 0))
    return int(enough[-1]) if len(enough) else None


def _samples(
    scores: _Floats,
    right: NDArray[np.bool_],
    item: Index,
    ends: Index,
    last: int,
    positives: int,
    wanted: float,
    resamples: int,
    seed: int,
) -> _Floats | None:
    """`(draws, 3)`: threshold (infinite where none is enough), and precision and recall at ours.

    Recall is of what could be found at the lowest threshold, times that share, because a draw does
    not say how many true ones were never scored.
    """
    names, unit = np.unique(item, return_inverse=True)
    if len(names) < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = np.full((resamples, 3), np.nan)
    reachable = right.sum() / positives
    for row in rows:
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
        weight = drawn[unit].astype(np.float64)
        place = _lowest(right, weight, ends, wanted)
        row[0] = np.inf if place is None else scores[ends[place]]
        hits, passed = (weight * right)[: last + 1].sum(), weight[: last + 1].sum()
        row[1] = hits / passed if passed else np.nan
        row[2] = reachable * hits / total if (total := (weight * right).sum()) else np.nan
    return rows


def _ends(samples: _Floats, level: float = 0.95) -> tuple[float | None, float | None]:
    samples = np.sort(samples[~np.isnan(samples)])
    if not len(samples):
        return None, None
    places = (int(share * (len(samples) - 1)) for share in ((1 - level) / 2, (1 + level) / 2))
    low, high = (float(samples[place]) for place in places)
    return (low, high) if np.isfinite([low, high]).all() else (None, None)
