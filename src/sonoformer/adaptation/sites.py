"""Where an encoder can be adapted: the layers that read normalised tokens and add to the stream."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

from sonoformer.errors import UserError
from sonoformer.nn.blocks import Block
from sonoformer.nn.mamba import MambaBlock

Kind = Literal["mix", "mlp"]


class Site(NamedTuple):
    """A layer of a block.

    Attributes:
        block: its number.
        kind: mix, where tokens hear each other (attention, scan); mlp.
        layer: called with normalised tokens `(batch, tokens, dim)` first.
        norm: the norm before it.
    """

    block: int
    kind: Kind
    layer: nn.Module
    norm: nn.LayerNorm


def sites(encoder: nn.Module) -> list[Site]:
    """All layers of all blocks, in order.

    Raises:
        UserError: blocks of a kind that is not known here.
    """
    found: list[Site] = []
    for number, block in enumerate(encoder.get_submodule("blocks").children()):
        before = len(found)
        for part in block.modules():
            if isinstance(part, Block):
                found.append(Site(number, "mix", part.attn, part.norm1))
                found.append(Site(number, "mlp", part.mlp, part.norm2))
            elif isinstance(part, MambaBlock):
                found.append(Site(number, "mix", part.mixer, part.norm))
        if len(found) == before:
            raise UserError(
                f"method: {type(encoder).__name__} has blocks of {type(block).__name__}, in which "
                "no place to adapt is known; train it in full, in part or its head alone"
            )
    return found
