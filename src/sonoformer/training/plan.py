"""Where a run stands: one flat sequence of optimiser steps, with epochs as marks along it."""

from __future__ import annotations

from dataclasses import dataclass

from sonoformer.training.config import TrainConfig


@dataclass(frozen=True)
class Plan:
    """The steps of a run.

    Attributes:
        total: optimiser steps.
        accumulate: batches an optimiser step.
        batches_per_epoch: batches in one pass over the training data.
        validate_every: optimiser steps between validations; None for once an epoch.
    """

    total: int
    accumulate: int
    batches_per_epoch: int
    validate_every: int | None = None

    @classmethod
    def of(cls, config: TrainConfig, batches_per_epoch: int) -> Plan:
        """The plan of `config`; batches left over at the end of the last epoch are not used."""
        batches = int(config.epochs * batches_per_epoch + 1e-6)
        total = config.steps or max(1, batches // config.accumulate)
        return cls(total, config.accumulate, batches_per_epoch, config.validate_every)

    def epochs(self, step: int) -> float:
        """Passes over the data after `step` steps."""
        return step * self.accumulate / self.batches_per_epoch

    def epochs_done(self, step: int) -> int:
        """Whole epochs after `step` steps; an epoch ends with its last whole optimiser step."""
        if self.accumulate > self.batches_per_epoch:
            return step * self.accumulate // self.batches_per_epoch
        return ((step + 1) * self.accumulate - 1) // self.batches_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Whether the step that makes it `step` steps was the last of an epoch."""
        return self.epochs_done(step) > self.epochs_done(step - 1)

    def validates(self, step: int) -> bool:
        """Whether validation follows once `step` steps are done."""
        if step == self.total:
            return True
        if self.validate_every is None:
            return self.ends_epoch(step)
        return step % self.validate_every == 0
