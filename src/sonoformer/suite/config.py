"""Everything that can be chosen when encoders are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from sonoformer.errors import UserError
from sonoformer.evaluation.descent import DescentConfig
from sonoformer.evaluation.framewise import FrameConfig
from sonoformer.evaluation.linear import ProbeConfig
from sonoformer.evaluation.neighbours import NeighbourConfig
from sonoformer.evaluation.weighted import WeightedConfig
from sonoformer.nn.tokens import Pooling

Probe = Literal["linear", "weighted", "attentive", "prototypical", "knn"]
Protocol = Literal["fixed", "folds"]
FinetuneHead = Literal["norm_linear", "probe"]
_MANY = Parameter(consume_multiple=True)  # several values after one option


@dataclass(frozen=True)
class SuiteConfig:
    """How frozen encoders are judged over tasks."""

    tasks: Annotated[tuple[str, ...], _MANY] = ()
    """Names of suite tasks, or tables of labelled clips with a fold or split column; all tasks of
    the suite by default."""
    protocol: Protocol = "fixed"
    """fixed: tested on the groups that stay out of the pretraining pool, and nothing else; folds:
    every group is tested once by a probe trained on the others."""
    probes: Annotated[tuple[Probe, ...], Parameter(name=("--probes", "--probe")), _MANY] = (
        "linear",
    )
    """linear: a linear classifier of pooled tokens; weighted: of a learned mean of all blocks;
    attentive: of tokens that learned queries choose; prototypical: class prototypes looked for
    among all tokens; knn: nearest neighbours."""
    seeds: int = 1
    """Probes that differ only in their seed: seed, seed + 1, ..."""
    pool: Pooling = "bands_std"
    """linear, knn: how tokens become one vector. mean: over all; cls: the prefix tokens; bands:
    over time for each frequency row; bands_std: with the standard deviation over time."""
    layer_pool: Literal["mean", "bands"] = "bands"
    """weighted: how a block's tokens become one vector."""
    seconds: float = 10.0
    """Longest stretch the encoder hears at once; longer clips are heard in parts."""
    level: Literal["checkpoint", "keep", "equal"] = "checkpoint"
    """equal: bring every clip to the same level before it is heard; keep: leave it; checkpoint: as
    the checkpoint has it."""
    frame_stride: int | None = None
    """russian-phones: frames from one token to the next, where the encoder can be read more densely
    than it was trained; the checkpoint's if absent."""
    random: Annotated[bool, Parameter(negative="")] = False
    """Also judge the same network with random weights."""
    floor: bool = True
    """Also measure the floor: a classifier of log-mel statistics that has learned nothing."""
    finetune: Annotated[bool, Parameter(negative="")] = False
    """Also fine-tune each encoder on each task with a small recipe (minutes a task)."""
    finetune_epochs: float = 12.0
    """finetune: passes over the training clips."""
    finetune_steps: int | None = None
    """finetune: most steps of a training, 16 clips each, where the passes would take more."""
    finetune_heads: Annotated[tuple[FinetuneHead, ...], _MANY] = ("norm_linear",)
    """finetune: heads, each a column of its own. norm_linear starts from random weights; probe as
    a linear probe of the frozen encoder, and learns at 3e-5 at most."""
    finetune_rates: Annotated[tuple[float, ...], _MANY] = (5e-4,)
    """finetune: learning rates, each a column of its own. Pretrained weights have lower rates for
    earlier blocks, random ones the same for all."""
    queries: int = 4
    """attentive: learned queries."""
    prototypes: int = 10
    """prototypical: prototypes of each class."""
    batch_size: int = 16
    """Clips heard at once."""
    resamples: int = 1000
    """Bootstrap samples behind each interval."""
    linear: Annotated[ProbeConfig, _MANY] = ProbeConfig()
    """Choice of the linear probe's penalty."""
    weighted: Annotated[WeightedConfig, _MANY] = WeightedConfig()
    """The weighted-layer probe."""
    descent: Annotated[DescentConfig, _MANY] = DescentConfig()
    """Training of attentive and prototypical probes."""
    knn: Annotated[NeighbourConfig, _MANY] = NeighbourConfig()
    """The neighbours' vote."""
    frames: Annotated[FrameConfig, _MANY] = FrameConfig()
    """Training of framewise probes."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UserError(f"seeds: must be at least 1; got {self.seeds}.")
        if not self.seconds > 0:
            raise UserError(f"seconds: must be above 0; got {self.seconds}.")
        for name in ("queries", "prototypes", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: must be at least 1; got {getattr(self, name)}.")
        if self.frame_stride is not None and self.frame_stride < 1:
            raise UserError(f"frame_stride: must be at least 1; got {self.frame_stride}.")
        if self.finetune_epochs <= 0:
            raise UserError(f"finetune_epochs: must be above 0; got {self.finetune_epochs}.")
        if self.finetune_steps is not None and self.finetune_steps < 1:
            raise UserError(f"finetune_steps: must be at least 1; got {self.finetune_steps}.")
        if not self.finetune_heads:
            raise UserError("finetune_heads: name one at least")
        if not self.finetune_rates or min(self.finetune_rates) <= 0:
            raise UserError(f"finetune_rates: must be above 0; got {self.finetune_rates}.")
        if self.resamples < 100:
            raise UserError(f"resamples: must be at least 100; got {self.resamples}.")
