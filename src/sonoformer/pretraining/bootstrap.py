"""Objectives whose targets come from a teacher that follows the encoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.nn.teacher import MomentumConfig, Teacher
from sonoformer.nn.tokens import Encoder
from sonoformer.pretraining.monitors import CollapseWatch, effective_rank
from sonoformer.pretraining.objective import Objective
from sonoformer.training.finite import INTERVAL

Keep = Literal["student", "teacher"]


class Bootstrap(Objective):
    """An objective with a teacher, which follows the encoder after each step.

    A subclass reports the spread of the teacher's targets as the term `target_spread`; a run whose
    targets collapse, or are no numbers, ends with a message.

    Args:
        encoder: the student.
        samples: length of the longest clip.
        momentum: how slowly the teacher follows.
        keep: which of the two is saved.
    """

    def __init__(
        self, encoder: Encoder, samples: int, momentum: MomentumConfig, keep: Keep
    ) -> None:
        super().__init__(encoder, samples)
        self.teacher = Teacher(encoder)  # type: ignore[arg-type]
        self.watch = CollapseWatch()
        self._momentum, self._keep = momentum, keep

    @property
    def taught_by(self) -> Encoder:
        """The teacher's encoder."""
        return self.teacher.model  # type: ignore[return-value]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its terms for the curves.

        Raises:
            UserError: the targets have collapsed, or are not finite (on a device, `end_step`).
        """
        loss, terms = super().loss(batch)
        self.watch.add(terms["target_spread"])
        return loss, terms

    def end_step(self, step: int, total: int) -> None:
        """The teacher follows; now and then the device is asked whether the targets are sound."""
        self.teacher.follow(self.encoder, self._momentum.at(step, total))  # type: ignore[arg-type]
        if step % INTERVAL == INTERVAL - 1:
            self.watch.look()

    def kept(self) -> nn.Module:
        """The encoder that is saved."""
        return self.teacher.model if self._keep == "teacher" else super().kept()

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, Tensor]:
        """`rank`: of the batch's clips by the mean of their tokens."""
        kept: Encoder = self.kept()  # type: ignore[assignment]
        return {"rank": effective_rank(kept.pooled(batch.wave, batch.lengths))}
