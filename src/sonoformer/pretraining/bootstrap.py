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
        head: what the teacher has too, behind its encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        samples: int,
        momentum: MomentumConfig,
        keep: Keep,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(encoder, samples)
        self.head = head
        self.teacher = Teacher(self._student())
        self.watch = CollapseWatch()
        self._momentum, self._keep = momentum, keep

    @property
    def taught_by(self) -> Encoder:
        """The teacher's encoder."""
        model = self.teacher.model
        return model if self.head is None else model["encoder"]  # type: ignore[index, return-value]

    @property
    def taught_head(self) -> nn.Module:
        """The teacher's head."""
        return self.teacher.model["head"]  # type: ignore[index]

    def encoders(self) -> list[nn.Module]:
        """Student and teacher."""
        return [self.encoder, self.taught_by]  # type: ignore[list-item]

    def _student(self) -> nn.Module:
        """What the teacher is a copy of."""
        encoder: nn.Module = self.encoder  # type: ignore[assignment]
        if self.head is None:
            return encoder
        return nn.ModuleDict({"encoder": encoder, "head": self.head})

    def begin(self) -> None:
        """The teacher begins as a copy, also of a head that was loaded."""
        self.teacher.model.load_state_dict(self._student().state_dict())

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
        self.teacher.follow(self._student(), self._momentum.at(step, total))
        if step % INTERVAL == INTERVAL - 1:
            self.watch.look()

    def kept(self) -> nn.Module:
        """The encoder that is saved."""
        return self.taught_by if self._keep == "teacher" else super().kept()  # type: ignore[return-value]

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, Tensor]:
        """`rank`: of the batch's clips by the mean of their tokens."""
        kept: Encoder = self.kept()  # type: ignore[assignment]
        return {"rank": effective_rank(kept.pooled(batch.wave, batch.lengths))}
