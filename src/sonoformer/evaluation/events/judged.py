"""Answers seen by every rule, and the figures that follow, for any weighting of recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.collars import by_collars
from sonoformer.evaluation.events.endpoints import Endpoints, endpoints, quantile
from sonoformer.evaluation.events.frames import FrameScores, frame_scores
from sonoformer.evaluation.events.intersection import Criteria, Intersections, by_intersection
from sonoformer.evaluation.events.outcomes import (
    Outcomes,
    Values,
    Weights,
    average_precision,
    class_f1,
    f1_of,
    false_alarms_per_hour,
    macro,
    pooled_f1,
)
from sonoformer.evaluation.events.psds import SCENARIOS, psd_roc, psds_samples
from sonoformer.evaluation.events.segments import SegmentCounts, by_segments, error_rate


@dataclass(frozen=True)
class EventScoring:
    """By what events are judged."""

    collar: float = 0.2
    """Seconds within which the onset must lie for event F1; for the offset at least this much."""
    offset_share: float = 0.5
    """Share of a true event's length within which its offset may lie."""
    segment: float = 1.0
    """Seconds of a segment for segment F1 and error rate."""
    dtc: float = 0.5
    """Share of a found event that must lie in true ones, for intersection F1, event AP and false
    alarms an hour."""
    gtc: float = 0.5
    """Share of a true event that must be found, likewise."""
    recall: float = 0.9
    """Recall at which false alarms an hour are counted."""
    e_max: float = 100.0
    """False alarms an hour up to which PSDS looks."""

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise UserError(f"recall: must be above 0 and at most 1; got {self.recall}.")
        if not 0 <= self.collar < np.inf:
            raise UserError(f"collar: must be 0 seconds or more; got {self.collar}.")
        if not 0 <= self.offset_share <= 1:
            raise UserError(f"offset_share: must lie in 0 to 1; got {self.offset_share}.")
        for name in ("segment", "e_max"):
            if not 0 < getattr(self, name) < np.inf:
                raise UserError(f"{name}: must be above 0; got {getattr(self, name)}.")
        Criteria(self.dtc, self.gtc)


@dataclass(frozen=True, eq=False)
class Judged:
    """Answers seen by each rule, computed once.

    Attributes:
        answers: true and found events.
        frames: frame scores with truth, in the order of `answers.paths`; may be empty.
        scoring: the rules.
    """

    answers: EventAnswers
    frames: Sequence[FrameScores] = ()
    scoring: EventScoring = EventScoring()

    @cached_property
    def collared(self) -> Outcomes:
        """Events by their ends."""
        return by_collars(self.answers, self.scoring.collar, self.scoring.offset_share)

    @cached_property
    def common(self) -> Outcomes:
        """Events by what they have in common."""
        return by_intersection(self.answers, Criteria(self.scoring.dtc, self.scoring.gtc)).outcomes

    @cached_property
    def segments(self) -> SegmentCounts:
        """Segments."""
        return by_segments(self.answers, self.scoring.segment)

    @cached_property
    def ends(self) -> Endpoints:
        """Pairs and their errors."""
        return endpoints(self.answers)

    @cached_property
    def scenarios(self) -> dict[str, Intersections]:
        """What the criteria of each PSDS scenario leave."""
        return {
            name: by_intersection(self.answers, scenario.criteria)
            for name, scenario in SCENARIOS.items()
        }


Measure = Callable[[Judged, Weights | None], Values]


def measures(judged: Judged) -> dict[str, Measure]:
    """The figures that have a meaning for these answers, the headline first."""
    found: dict[str, Measure] = {
        "event_f1": lambda j, w: macro(class_f1(j.collared, w)),
        "intersection_f1": lambda j, w: macro(class_f1(j.common, w)),
    }
    if judged.answers.scored:
        found |= {
            "psds1": lambda j, w: _psds(j, "PSDS1", w),
            "psds2": lambda j, w: _psds(j, "PSDS2", w),
            "event_ap": lambda j, w: macro(average_precision(j.common, w)),
            "false_alarms_per_hour": lambda j, w: macro(
                false_alarms_per_hour(j.common, j.scoring.recall, w)
            ),
        }
    found |= {
        "onset_error": lambda j, w: _end_error(j, "onset", 0.5, w),
        "onset_error_p90": lambda j, w: _end_error(j, "onset", 0.9, w),
        "offset_error": lambda j, w: _end_error(j, "offset", 0.5, w),
        "offset_error_p90": lambda j, w: _end_error(j, "offset", 0.9, w),
        "event_f1_pooled": lambda j, w: pooled_f1(j.collared, w),
        "segment_f1": lambda j, w: macro(segment_f1(j, w)),
        "segment_error_rate": lambda j, w: error_rate(j.segments, _weights(j, w)),
    }
    if judged.frames:
        found |= {
            "frame_ap": lambda j, w: macro(framewise(j, w)[0]),
            "frame_auc": lambda j, w: macro(framewise(j, w)[1]),
        }
    return found


def _psds(judged: Judged, name: str, weights: Weights | None) -> Values:
    scenario = replace(SCENARIOS[name], e_max=judged.scoring.e_max)
    found = judged.scenarios[name]
    if weights is None:
        return np.array([psd_roc(found, scenario).score])
    return psds_samples(found, scenario, weights)


def _end_error(judged: Judged, which: str, share: float, weights: Weights | None) -> Values:
    ends = judged.ends
    return quantile(np.abs(getattr(ends, which)), share, _weights(judged, weights)[:, ends.item])


def segment_f1(judged: Judged, weights: Weights | None = None) -> Values:
    """`(draws, classes)`: F1 of segments."""
    counts, weights = judged.segments, _weights(judged, weights)
    return f1_of(weights @ counts.hits, weights @ counts.false, weights @ counts.misses)


def framewise(judged: Judged, weights: Weights | None = None) -> tuple[Values, Values]:
    """Average precision and AUC of frames, each `(draws, classes)`."""
    return frame_scores(judged.frames, len(judged.answers.classes), weights)


def _weights(judged: Judged, weights: Weights | None) -> Weights:
    return np.ones((1, len(judged.answers.paths))) if weights is None else weights
