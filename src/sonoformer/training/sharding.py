"""A learner whose weights are shared out among the processes (FSDP2), and put together again.

Each process keeps its share of every weight, gradient and moment; a block's weights are gathered
for as long as the block computes. What is learnt is what `ddp` learns, for models that are too
large for one device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.nn.blocks import Block
from sonoformer.nn.mamba import MambaBlock, Pair
from sonoformer.training.learner import Learner


def shard(learner: Learner, mesh: Any) -> None:
    """Share the weights out in place: block by block, then what is left."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    pairs = [part for part in learner.modules() if isinstance(part, Pair)]
    # The blocks of a pair are not called by themselves.
    halves = {half for pair in pairs for half in pair.children()}
    for part in learner.modules():
        if isinstance(part, Block | MambaBlock | Pair) and part not in halves:
            fully_shard(part, mesh=mesh)
    fully_shard(learner, mesh=mesh, reshard_after_forward=True)
    for name in ("loss", "evaluate"):
        register_fsdp_forward_method(learner, name)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The module's state with whole tensors; where it is shared out, all processes must ask."""
    return {name: whole(value.detach()) for name, value in module.state_dict().items()}


def whole(value: Tensor) -> Tensor:
    """A tensor that may be shared out, put together on every process."""
    gather = getattr(value, "full_tensor", None)
    found: Tensor = value if gather is None else gather()
    return found


def total_norm(tensors: list[Tensor]) -> Tensor:
    """Norm of all values, of all processes where they are shared out."""
    return whole(torch.nn.utils.get_total_norm(tensors))
