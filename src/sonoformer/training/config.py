"""How long, how fast and with what a model is trained: options only, read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sonoformer.errors import UserError


def _at_least(name: str, value: float, least: float, above: bool = False) -> None:
    if not (value > least if above else value >= least):
        bound = f"above {least}" if above else f"at least {least}"
        raise UserError(f"{name}: must be {bound}; got {value}.")


@dataclass(frozen=True)
class OptimiserConfig:
    """The optimiser and its settings."""

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    """adam adds the decay to the gradient (as SSAST and AST do), adamw shrinks the weights."""
    lr: float | None = None
    """Peak learning rate, before any multiplier of a parameter group. If absent: 0.0001, and in
    fine-tuning 0.0003, 0.001 for the head alone, 0.005 for methods with few weights, 0.01 for
    prompts."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two moments; SSAST uses 0.95 and 0.999. sgd takes the first as momentum."""
    eps: float = 1e-8
    """Added to Adam's denominator."""
    weight_decay: float = 0.0
    """Decay of the weights, unless a parameter group has its own."""
    weight_decay_end: float | None = None
    """Decay at the last step, reached by half a cosine (DINO, ASiT); constant if absent."""
    decayed: Literal["all", "matrices"] = "all"
    """What decays. matrices: not biases, norms and other weights of one dimension."""
    clip: float = 0.0
    """Longest gradient; 0 does not clip."""
    clip_by: Literal["all", "tensor"] = "all"
    """all: the norm over all weights is held; tensor: that of each weight tensor (as in ASiT)."""

    def __post_init__(self) -> None:
        if self.lr is not None:
            _at_least("lr", self.lr, 0, above=True)
        _at_least("eps", self.eps, 0, above=True)
        _at_least("weight_decay", self.weight_decay, 0)
        _at_least("clip", self.clip, 0)
        if self.weight_decay_end is not None:
            _at_least("weight_decay_end", self.weight_decay_end, 0)
            if self.weight_decay == 0:
                raise UserError("weight_decay_end: needs a weight_decay above 0 to begin with.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas: each must be in [0, 1); got {self.betas}.")

    @property
    def peak(self) -> float:
        """The peak learning rate that training takes."""
        return 1e-4 if self.lr is None else self.lr


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over time, as a factor on the peak rate.

    Epochs are counted as completed passes over the training data.
    """

    name: Literal["constant", "cosine", "step", "exponential", "plateau"] = "constant"
    """What happens after the warm-up."""
    warmup_steps: int = 0
    """Optimiser steps over which the rate rises to its peak."""
    warmup: Literal["linear", "reference"] = "linear"
    """reference: SSAST's staircase, changed every 50 steps, at rate 0 for the first 50."""
    floor: float = 0.0
    """cosine: the factor at the last step. plateau: the smallest factor."""
    milestones: tuple[int, ...] = ()
    """step: the epochs after which the rate is multiplied by `factor`."""
    start_epoch: int = 1
    """exponential: the rate is multiplied by `factor` after this epoch and each later one."""
    factor: float = 0.5
    """step, exponential, plateau: what the rate is multiplied by each time."""
    monitor: str | None = None
    """plateau: the validation metric that is watched."""
    mode: Literal["max", "min"] = "max"
    """plateau: whether larger or smaller values of the metric are better."""
    patience: int = 2
    """plateau: validations without a gain that are borne; the next one lowers the rate."""

    def __post_init__(self) -> None:
        _at_least("warmup_steps", self.warmup_steps, 0)
        _at_least("patience", self.patience, 0)
        _at_least("start_epoch", self.start_epoch, 0)
        if not 0 <= self.floor <= 1:
            raise UserError(f"floor: must be between 0 and 1; got {self.floor}.")
        if not 0 < self.factor <= 1:
            raise UserError(f"factor: must be above 0 and at most 1; got {self.factor}.")
        if list(self.milestones) != sorted(self.milestones):
            raise UserError(f"milestones: must rise; got {self.milestones}.")
        if self.name == "step" and not self.milestones:
            raise UserError("milestones: schedule 'step' needs at least one epoch.")
        if self.name == "plateau" and self.monitor is None:
            raise UserError("monitor: schedule 'plateau' needs the validation metric to watch.")


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    steps: int | None = None
    """Optimiser steps; takes the place of `epochs`."""
    epochs: float = 10.0
    """Passes over the training data."""
    batch_size: int = 16
    """Clips in one forward and backward pass."""
    accumulate: int = 1
    """Passes whose gradients are averaged for one optimiser step."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes it fast, else fp32."""
    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4)
    """The optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over time."""
    ema: float | None = None
    """Decay a step of an exponential moving average of the weights; validated and given back."""
    average_from: int | None = None
    """First epoch of a uniform average of the weights at epoch ends, which is given back."""
    average_to: int | None = None
    """Last epoch of that average; the last of all by default."""
    best: str | None = None
    """Validation metric by which the weights given back are chosen; the last ones by default."""
    best_mode: Literal["max", "min"] = "max"
    """Whether larger or smaller values of that metric are better."""
    validate_every: int | None = None
    """Optimiser steps between validations; once an epoch by default, and always at the end."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints; each validation and each stop writes one too."""
    log_every: int = 20
    """Optimiser steps averaged into one row of the curves."""
    workers: int = 1
    """Processes that load data; 0 loads in the training process."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How processes that torchrun starts share the work. ddp: each holds the whole model; fsdp:
    each holds a share of its weights and moments, for models too large for one device."""
    compile: bool = False
    """Compile the encoder with torch.compile: a slow start, then faster steps."""
    checkpointing: bool = False
    """Keep little of the encoder's blocks for the backward pass and compute the rest again there:
    less memory, more time, the same gradients."""
    tensorboard: bool = False
    """Write the curves for TensorBoard too."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            _at_least("steps", self.steps, 1)
        _at_least("epochs", self.epochs, 0, above=True)
        for name in ("batch_size", "accumulate", "log_every"):
            _at_least(name, getattr(self, name), 1)
        _at_least("workers", self.workers, 0)
        _at_least("checkpoint_minutes", self.checkpoint_minutes, 0)
        if self.validate_every is not None:
            _at_least("validate_every", self.validate_every, 1)
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UserError(f"ema: must be at least 0 and below 1; got {self.ema}.")
        if self.strategy == "fsdp" and (self.ema is not None or self.average_from is not None):
            raise UserError("strategy: fsdp keeps no averages (ema, average_from); use ddp")
        if self.average_from is None and self.average_to is not None:
            raise UserError("average_to: needs average_from, the first epoch of the average.")
        if self.average_from is not None:
            _at_least("average_from", self.average_from, 1)
            if self.average_to is not None and self.average_to < self.average_from:
                raise UserError(
                    f"average_to: must not come before average_from ({self.average_from}); "
                    f"got {self.average_to}."
                )
        chosen = {"best": self.best, "ema": self.ema, "average_from": self.average_from}
        if self.average_from is not None and (self.best or self.ema is not None):
            names = ", ".join(name for name, value in chosen.items() if value is not None)
            raise UserError(f"average_from: only one kind of weights is given back; got {names}.")
