"""A learner as Lightning wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from sonoformer.data.batch import Batch
from sonoformer.training.config import TrainConfig
from sonoformer.training.finite import Guard
from sonoformer.training.journal import Window
from sonoformer.training.learner import Learner
from sonoformer.training.optimisers import build_optimiser
from sonoformer.training.sharding import shard, total_norm


class Module(pl.LightningModule):
    """One training step: loss, gradient, clipping; everything between steps is in `Cycle`.

    Args:
        learner: the model and its loss.
        config: the training options.
        loader: makes the training loader for a rank and a world size.
        guard: watches the loss and the gradient.
        window: collects the training metrics.
    """

    def __init__(
        self,
        learner: Learner,
        config: TrainConfig,
        loader: Callable[[int, int], Iterable[Batch]],
        guard: Guard,
        window: Window,
    ) -> None:
        super().__init__()
        self.learner, self.config, self._loader = learner, config, loader
        self.guard, self.window = guard, window
        self._shared_out = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        loss, metrics = self.learner.loss(batch)
        self.guard.check(loss)
        self.window.add({"loss": loss, **metrics})
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Measure the gradient, and shorten it to `clip`; runs before each optimiser step."""
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        norm = total_norm([p.grad for p in weights if p.grad is not None])
        self.guard.check(norm)
        self.guard.agree()
        self.window.add({"grad_norm": norm})
        options = self.config.optimiser
        if options.clip > 0 and options.clip_by == "all":
            torch.nn.utils.clip_grads_with_norm_(weights, options.clip, norm)
        elif options.clip > 0:
            _clip_each([p.grad for p in weights if p.grad is not None], options.clip)

    def configure_model(self) -> None:
        """Share the weights out, where that is asked for."""
        # Before processes take note of what they have to exchange, what never trains is frozen.
        self.learner.parameter_groups(self.config.optimiser.peak)
        if self.config.strategy == "fsdp" and not self._shared_out:
            shard(self.learner, self.device_mesh["data_parallel"])  # type: ignore[index]
            self._shared_out = True

    def configure_optimizers(self) -> Optimizer:
        """The optimiser; the learning rate is set by `Cycle` before each step."""
        return build_optimiser(self.learner, self.config.optimiser)

    def train_dataloader(self) -> Any:
        """The loader of this process's share of each batch."""
        return self._loader(self.global_rank, self.trainer.world_size)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """The batch on the device."""
        return batch.to(device, non_blocking=device.type == "cuda")


def _clip_each(gradients: list[Tensor], longest: float) -> None:
    """Shorten each gradient to `longest`; nothing waits for the device."""
    norms = torch._foreach_norm(gradients)
    factors = [(longest / (norm + 1e-6)).clamp_max(1.0) for norm in norms]
    torch._foreach_mul_(gradients, factors)
