"""Options of a detector's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sonoformer.data.strong import Reviewed
from sonoformer.errors import UserError
from sonoformer.tasks.detection.heads import FrameKind

HIGHEST_WEIGHT = 20.0


@dataclass(frozen=True)
class EventsConfig:
    """How a detector of events learns (`--task events`)."""

    head: FrameKind = "concat"
    """concat: a linear layer on all tokens of a column together; mean: on each token, then the mean
    over a column's rows; full: on each token, kept apart, so that events get a frequency band."""
    labels: Literal["auto", "strong", "weak"] = "auto"
    """strong: rows say when; weak: they say only that a class is somewhere in the clip, and
    attention over time finds where. auto: weak if every labelled row is a whole file."""
    reviewed: Reviewed = "auto"
    """What was listened to. recordings: all of every recording in the table; rows: only what its
    reviewed rows cover. auto: rows if there are reviewed rows without a label, labels that are
    not reviewed, or negatives."""
    crop_share: float = 0.5
    """Least share of training crops that hold part of an event."""
    cover: float = 0.5
    """Share of a time cell that an event must cover to be its truth."""
    targets: Literal["hard", "share"] = "hard"
    """hard: a cell holds a class or not, by `cover`; share: the covered share is what is learned,
    which places ends of events more finely."""
    positive_weight: float | None = None
    """Weight of a present class in the loss. Absent: known time without the class over time with
    it in the training recordings, at least 1 and at most 20, for each class."""
    calibration: Literal["platt", "temperature", "isotonic", "none"] = "platt"
    """What makes scores probabilities, fitted on the validation recordings class by class: platt
    scales and moves logits, as weighted classes need; temperature scales them; isotonic mends any
    bias and needs more recordings. The first two keep the order of the scores."""
    overlap: float = 0.5
    """Share of a window that the next one repeats, in validation and test."""
    baselines: bool = False
    """Fit simpler systems on the same recordings, and put them beside the detector in the report:
    energy, energy in each class's band, logistic regression and boosted trees on log-mels, and a
    small CNN."""

    def __post_init__(self) -> None:
        if not 0 <= self.crop_share <= 1:
            raise UserError(f"crop_share: must lie between 0 and 1; got {self.crop_share}.")
        if not 0 < self.cover <= 1:
            raise UserError(f"cover: must be above 0 and at most 1; got {self.cover}.")
        if self.positive_weight is not None and not 0 < self.positive_weight < float("inf"):
            raise UserError(f"positive_weight: must be above 0; got {self.positive_weight}.")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap: must be at least 0 and below 1; got {self.overlap}.")
