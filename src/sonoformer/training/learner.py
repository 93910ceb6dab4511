"""What the training engine asks of a model that learns."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from sonoformer.data.batch import Batch


class LearnerProtocol(Protocol):
    """The methods of a `Learner`; see there."""

    noise: int

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]: ...
    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]: ...
    def parameter_groups(self, lr: float) -> list[dict[str, Any]]: ...
    def start_step(self, step: int, total: int) -> None: ...
    def end_step(self, step: int, total: int) -> None: ...


class Learner(nn.Module):
    """A model and what it minimises.

    Attributes:
        encoder: the encoder being trained.
        noise: uniform random numbers a clip that the loss needs, given as `Batch.noise`; all
            randomness of a loss except dropout comes from there, so that a resumed run repeats it.
        uneven: whether there are steps in which a weight that trains gets no gradient; where
            several processes train, looking for such weights takes a walk through the graph.
    """

    encoder: nn.Module
    noise: int = 0
    uneven: bool = False

    def encoders(self) -> list[nn.Module]:
        """All encoders that a step runs, of the encoder's class: what is compiled on request."""
        return [self.encoder]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and detached scalars for the curves."""
        raise NotImplementedError

    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Name -> (sum, count) over the batch; validation reports sum / count over all batches."""
        raise NotImplementedError

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Groups as torch.optim takes them: `params`, and where they differ `lr`, `weight_decay`.

        Weights that are frozen when this returns are left out for the whole run; those that
        `start_step` frees later must not be. By default one group of all that are not frozen.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]

    def start_step(self, step: int, total: int) -> None:
        """Called before optimiser step `step` (from 0) of `total`, for schedules of the model's
        own, such as freezing. It must depend on its arguments only, so that a resumed run agrees.
        """

    def end_step(self, step: int, total: int) -> None:
        """Called after optimiser step `step` (from 0) of `total`, for what follows the weights,
        such as a teacher that is their moving average. What it remembers must be in the module's
        state, so that a resumed run agrees.
        """
