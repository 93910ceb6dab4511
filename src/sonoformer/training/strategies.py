"""How several processes share a training: Lightning's strategies, set up for our learners."""

from __future__ import annotations

import os
from typing import Any

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from sonoformer.training.learner import Learner
from sonoformer.training.processes import launched, local


def make_strategy(learner: Learner, name: str) -> Strategy | str:
    """`ddp`: every process holds the whole model, and gradients are averaged; `fsdp`: see
    `sharding`; `auto` for one process."""
    if launched() == 1:
        return "auto"
    if name == "fsdp":
        return ModelParallelStrategy(launched(), 1, save_distributed_checkpoint=False)
    return DDPStrategy(gradient_as_bucket_view=True, find_unused_parameters=learner.uneven)


def places(device: Any) -> dict[str, Any]:
    """What Lightning is told of devices and machines, for a process on `device`."""
    if launched() == 1:
        return {"devices": [device.index or 0] if device.type == "cuda" else 1}
    here = local()[1]
    return {"devices": here, "num_nodes": int(os.environ["WORLD_SIZE"]) // here}
