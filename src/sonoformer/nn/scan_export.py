"""Recurrences as one node of an exported graph, however many steps they take (ONNX `Scan`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def recur(
    step: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, Tensor]],
    state: Tensor,
    pieces: tuple[Tensor, ...],
) -> Tensor:
    """Outputs of `step(state, pieces at t) -> state, output` along dimension 1 of the pieces.

    Only for graphs that are being exported: the operator has no gradient everywhere.
    """
    from torch._higher_order_ops.scan import scan

    along = tuple(piece.transpose(0, 1).contiguous() for piece in pieces)
    _, outputs = scan(step, state.contiguous(), along, dim=0)
    return outputs.transpose(0, 1)


def selective_node(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, reverse: bool
) -> Tensor:
    """The selective scan's formulas (see `selective_scan`) as such a node."""
    rates = a.T.contiguous()

    def step(state: Tensor, at: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        one, by, into, out = at
        drive = (by * one).unsqueeze(1) * into.unsqueeze(2)
        state = torch.exp(by.unsqueeze(1) * rates) * state + drive
        return state, (out.unsqueeze(2) * state).sum(1)

    state = u.new_zeros(u.shape[0], *rates.shape)
    if not reverse:
        return recur(step, state, (u, delta, b, c))
    turned = tuple(x.flip(1) for x in (u, delta, b, c))
    return recur(step, state, turned).flip(1)


def passed_on_node(ends: Tensor, decay: Tensor, state: Tensor) -> Tensor:
    """State before each chunk (see `duality`) as such a node.

    `ends` `(batch, chunks, heads, states, width)`, `decay` `(batch, chunks, heads)`.
    """

    def step(now: Tensor, at: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        chunk, share = at
        return chunk + share.unsqueeze(2).unsqueeze(3) * now, now.clone()

    return recur(step, state, (ends, decay))
