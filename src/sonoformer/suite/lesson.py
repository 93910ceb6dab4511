"""A task as arrays: classes, answers, groups and weights of its clips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.classes import class_weights, targets
from sonoformer.evaluation.metrics import SINGLE, Answers, Metric, balanced_accuracy, score
from sonoformer.suite.tasks import SuiteTask
from sonoformer.suite.turns import Turn
from sonoformer.tasks.clips import Clips


@dataclass(frozen=True, eq=False)
class Lesson:
    """A task on the clips that can be read.

    Attributes:
        task: the task.
        clips: its clips.
        turns: what is tested in turn.
        data: fingerprint of the clips, labels and turns.
    """

    task: SuiteTask
    clips: Clips
    turns: list[Turn]
    data: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The class list."""
        return self.clips.manifest.classes

    @cached_property
    def targets(self) -> NDArray[np.bool_]:
        """Bool `(clips, classes)`."""
        return targets(self.clips.manifest, self.classes)[0] > 0

    @property
    def metric(self) -> Metric:
        """The headline score."""
        return SINGLE[self.task.metric]

    def column(self, name: str) -> NDArray[np.str_]:
        """A text column; where it is empty, the clip's own path."""
        values = self.clips.manifest.table.select(pl.coalesce(pl.col(name).cast(pl.String), "path"))
        return np.array(values.to_series().to_list(), dtype=str)

    def inner(self, turn: Turn) -> list[str]:
        """What stays whole among the training clips when hyperparameters are chosen.

        Clips, where the training clips are all of one group.
        """
        names = self.column(self.task.inner)[turn.train]
        if len(np.unique(names)) < 2:
            return [str(row) for row in turn.train]
        return list(names)

    def weight(self, turn: Turn) -> NDArray[np.float32] | None:
        """Weights of the training clips; classes weigh the same where the score is balanced."""
        if self.task.metric != "balanced_accuracy":
            return None
        target = self.targets[turn.train].astype(np.float32)
        each = class_weights(target, np.ones(target.shape, bool))
        return (target @ each).astype(np.float32)

    def answers(self, turn: Turn, scores: NDArray[np.float32]) -> Answers:
        """Scores `(test clips, classes)` beside the truth."""
        names = self.clips.names
        drawn = self.task.drawn
        groups = None if drawn is None else tuple(self.column(drawn)[turn.test])
        return Answers(
            classes=self.classes,
            scores=scores.astype(np.float32),
            targets=self.targets[turn.test],
            single=True,
            clips=tuple(names[row] for row in turn.test),
            groups=groups,
        )


def chance(metric: Metric, answers: Answers, guesses: NDArray[np.int64]) -> float:
    """Score of a constant answer: of the class that was commonest in training.

    Where classes weigh the same, any constant is right about one class of those tested.

    Args:
        metric: the score.
        answers: the tested clips.
        guesses: `(clips,)` the commonest class where each was tested.
    """
    if metric is balanced_accuracy:
        return 1 / int(answers.targets.any(0).sum())
    scores = np.zeros_like(answers.scores)
    scores[np.arange(len(answers)), guesses] = 1
    blind = Answers(answers.classes, scores, answers.targets, single=True, clips=answers.clips)
    return score(metric, blind)
