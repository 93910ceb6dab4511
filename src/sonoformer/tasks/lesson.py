"""The training part of a turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from sonoformer.data.loader import EvaluationLoader
from sonoformer.tasks.classification import Classifier
from sonoformer.training import TrainData


@dataclass
class Lesson:
    """The training part of a turn as the engine takes it: only clips that say something.

    Attributes:
        learner: model and loss.
        data: training clips and their order.
        validation: batches to watch, or None.
        taken: classes whose rows of the head come from the detector that training starts from.
    """

    learner: Classifier
    data: TrainData
    validation: EvaluationLoader | None
    taken: list[str] = field(default_factory=list)
