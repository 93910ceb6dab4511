"""The selective scan on CUDA, forward and backward; `scan_programs` holds what runs there.

Where clips and channels alone do not fill the device, clips are cut into pieces that are walked
side by side, twice: from zero for what each hands on, then from what reaches it. The exponentials,
16 to a token and channel in SSAMBA, are what a pass waits for rather than memory.

For the backward pass the forward one keeps a state every `CHUNK` tokens. From there states are
made again at every `RUN` tokens, for as long as this scan's gradients take, and between those in
registers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from sonoformer.nn import scan_programs

CHUNK = 64
"""Tokens from one kept state to the next."""
RUN = 8
"""Tokens whose states the backward pass has in registers at a time."""
_PROGRAMS = 24
"""Programs of a processor when it is full; under a third of that, pieces are worth a second pass
for each."""
_OPTIONS: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": True}


def kernel_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, reverse: bool) -> Tensor:
    """As `selective_scan`, of any floating types; computed in fp32, or fp64 if `u` is."""
    given = (u, delta, a, b, c)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    y, _ = _scan(u, delta, a, b, c, reverse, keep)
    return y


# As operators of torch, which `torch.compile` passes on without looking into them.


@torch.library.custom_op(
    "sonoformer::selective_scan",
    mutates_args=(),
    schema="(Tensor u, Tensor delta, Tensor a, Tensor b, Tensor c, bool reverse, bool keep)"
    " -> (Tensor, Tensor)",
)
def _scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, reverse: bool, keep: bool
) -> tuple[Tensor, Tensor]:
    """Outputs, and the states before each chunk `(batch, chunks, states, channels)` to `keep`."""
    y, saved = _results(u, delta, a, b, c, reverse, keep)
    u, delta, rates, b, c = _prepared(u, delta, a, b, c)
    tile = _tile(rates.shape[0], 8)
    with torch.cuda.device_of(u):
        piece = _piece(u, tile)
        starts = _reaching(u, delta, rates, b, piece, reverse, adjoint=False)
        scan_programs.forward[_grid(u, tile, piece)](
            u, delta, rates, b, c, starts, y, saved if keep else None,
            u.shape[1], u.shape[2], piece, *_strides(u, delta),
            **tile, REVERSE=reverse, EVERY=CHUNK, **_OPTIONS,
        )  # fmt: skip
    return y, saved


@_scan.register_fake
def _results(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, reverse: bool, keep: bool
) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    chunks = -(-length // CHUNK) if keep else 0
    y = u.new_empty((batch, length, channels), dtype=_kind(u))
    return y, u.new_empty((batch, chunks, a.shape[1], channels), dtype=_kind(u))


@torch.library.custom_op(
    "sonoformer::selective_scan_gradient",
    mutates_args=(),
    schema="(Tensor dy, Tensor u, Tensor delta, Tensor a, Tensor b, Tensor c, Tensor saved,"
    " bool reverse) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _gradient(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    saved: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, a, b and c."""
    kinds = (a.dtype, b.dtype, c.dtype)
    du, ddelta = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (u, delta))
    u, delta, rates, b, c = _prepared(u, delta, a, b, c)
    dy = _side_by_side(dy)
    batch, length, channels = u.shape
    tile = _tile(rates.shape[0], 4)
    with torch.cuda.device_of(u):
        piece = _piece(u, tile)
        dense = _dense(u, delta, rates, b, saved, reverse)
        carries = _reaching(dy, delta, rates, c, piece, reverse, adjoint=True)
        da = torch.empty_like(carries)
        blocks = _blocks(channels, tile)
        db, dc = (rates.new_empty(blocks, *x.shape) for x in (b, c))
        scan_programs.backward[_grid(u, tile, piece)](
            u, delta, rates, b, c, dy, dense, carries, du, ddelta, db, dc, da,
            length, channels, piece, batch, *_strides(u, delta, dy),
            **tile, REVERSE=reverse, EVERY=RUN, **_OPTIONS,
        )  # fmt: skip
    da, db, dc = da.sum((0, 1)).T.contiguous(), db.sum(0), dc.sum(0)
    return du, ddelta, da.to(kinds[0]), db.to(kinds[1]), dc.to(kinds[2])


@_gradient.register_fake
def _gradient_results(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    saved: Tensor,
    reverse: bool,
) -> tuple[Tensor, ...]:
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (u, delta, a, b, c))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5], output[1])
    ctx.reverse = inputs[5]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return *_gradient(dy, *ctx.saved_tensors, ctx.reverse), None, None


_scan.register_autograd(_backward, setup_context=_remember)


# Parts of both ------------------------------------------------------------------------------------


def _prepared(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    """As the programs read them: u and delta as they are, the small ones in full and in order."""
    kind = _kind(u)
    rates = (a.to(kind).T * math.log2(math.e)).contiguous()
    b, c = (x.to(kind).contiguous() for x in (b, c))
    return _side_by_side(u), _side_by_side(delta), rates, b, c


def _reaching(
    x: Tensor,
    delta: Tensor,
    rates: Tensor,
    weights: Tensor,
    piece: int,
    reverse: bool,
    *,
    adjoint: bool,
) -> Tensor:
    """States that reach each piece, `(batch, pieces, states, channels)`; see `summarise`."""
    (batch, length, channels), tile = x.shape, _tile(rates.shape[0], 8)
    pieces = -(-length // piece)
    found = rates.new_zeros(batch, pieces, *rates.shape)
    if pieces == 1:
        return found
    steps = rates.new_empty(batch, pieces, channels)
    scan_programs.summarise[_grid(x, tile, piece)](
        x, delta, rates, weights, found, steps,
        length, channels, piece, *_strides(x, delta),
        **tile, REVERSE=reverse, ADJOINT=adjoint, **_OPTIONS,
    )  # fmt: skip
    scan_programs.pass_on[_grid(x, tile, length)](
        found, steps, rates, pieces, channels, **tile, ADJOINT=adjoint, **_OPTIONS
    )
    return found


def _dense(
    u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, saved: Tensor, reverse: bool
) -> Tensor:
    """States before each run of tokens, from those before each chunk."""
    (batch, length, channels), tile = u.shape, _tile(rates.shape[0], 8)
    dense = rates.new_empty(batch, -(-length // RUN), *rates.shape)
    scan_programs.forward[_grid(u, tile, CHUNK)](
        u, delta, rates, b, None, saved, None, dense,
        length, channels, CHUNK, *_strides(u, delta),
        **tile, REVERSE=reverse, EVERY=RUN, **_OPTIONS,
    )  # fmt: skip
    return dense


def _kind(u: Tensor) -> torch.dtype:
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _side_by_side(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 else x.contiguous()


def _strides(*tensors: Tensor) -> list[int]:
    """Of clips and tokens."""
    return [x.stride(axis) for x in tensors for axis in (0, 1)]


# How the work is laid out -------------------------------------------------------------------------


def _tile(states: int, held: int) -> dict[str, int]:
    """Sizes of a program's tile; a lane holds `held` states, of twice as many cells, or more."""
    padded = triton.next_power_of_2(max(1, states))
    lanes = min(32, max(1, padded // held))
    own = padded // lanes
    return {
        "N": states,
        "P": min(4, max(1, 2 * held // own)),
        "K": own,
        "J": lanes,
        "L": 32 // lanes,
    }


def _blocks(channels: int, tile: dict[str, int]) -> int:
    return -(-channels // (tile["P"] * tile["L"]))


def _grid(x: Tensor, tile: dict[str, int], piece: int) -> tuple[int]:
    batch, length, channels = x.shape
    return (batch * -(-length // piece) * _blocks(channels, tile),)


def _piece(u: Tensor, tile: dict[str, int]) -> int:
    """Tokens of a piece, a multiple of `CHUNK`: all of them unless the device is far from full."""
    batch, length, channels = u.shape
    whole = -(-length // CHUNK) * CHUNK
    pieces = _PROGRAMS * _processors(u.device) // max(1, batch * _blocks(channels, tile))
    if pieces < 8:
        return whole
    piece = -(-whole // (pieces * CHUNK)) * CHUNK
    return piece if 2 * piece < length else whole


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # Triton's interpreter
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
