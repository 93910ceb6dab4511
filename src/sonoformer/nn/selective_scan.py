"""The selective scan of Mamba (Gu & Dao 2023, section 3.2 and algorithm 2), without CUDA packages.

A linear recurrence whose decay, input and output depend on the token:

    h_t[n, c] = exp(delta_t[c] a[c, n]) h_(t-1)[n, c] + delta_t[c] b_t[n] u_t[c]
    y_t[c]    = sum_n c_t[n] h_t[n, c]

(zero-order hold for the decay, Euler's rule for the input). A token with delta = 0 leaves the state
as it is, which is how padding is passed over. All of it is computed in fp32 at least, whatever the
inputs or autocast: `a` and `delta` only meet in exp of numbers below zero, so that nothing there
overflows, and states do not lose small inputs. Four forms give the same numbers:

* `sequential`: the formulas, a step at a time; the judge of the others;
* `blocked`: decays and inputs of a block of steps at once, then a fused step each on what lies in
  the processor's cache: one exponential for each channel, state and token, and no memory that grows
  with the length but inputs and outputs;
* `chunked`: the sequence cut into about sqrt(L) chunks that run side by side, as if they were
  clips, twice: from zero for their last states, then from the states that those make one after
  the other. About sqrt(L) steps instead of L and twice the work: for devices where a step waits
  longer for its start than it runs.

The backward pass recomputes the states from those at the beginning of each block.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sonoformer.nn.scan_blocks import backward_blocks, forward_blocks
from sonoformer.nn.scan_export import selective_node

Form = Literal["auto", "blocked", "chunked", "kernel", "sequential"]

# Torch for CUDA brings it; looked for, not imported.
_TRITON = find_spec("triton") is not None


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    reverse: bool = False,
    form: Form = "auto",
) -> Tensor:
    """The recurrence along the tokens of each clip, from state zero.

    A NaN or an infinity reaches its own clip's outputs from that token on, in the direction of the
    scan, and none else.

    Args:
        u: inputs `(batch, tokens, channels)`, of any strides.
        delta: step sizes of the same shape, at least 0; 0 passes a token over.
        a: `(channels, states)`, below zero.
        b: `(batch, tokens, states)`.
        c: `(batch, tokens, states)`.
        reverse: run from the last token to the first.
        form: auto is blocked on a CPU, kernel on CUDA if triton is installed, chunked elsewhere;
            exported graphs hold a node `Scan`.

    Returns:
        `(batch, tokens, channels)`; float64 if the inputs are, else float32.

    Raises:
        ValueError: no tokens, shapes that do not fit, an unknown form, or one that cannot run here.
    """
    _check(u, delta, a, b, c, form)
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        if torch.compiler.is_exporting():
            given = [x.to(kind) for x in (u, delta, a, b, c)]
            return selective_node(given[0], given[1], given[2], given[3], given[4], reverse)
        if form == "auto":
            form = _usual(u.device)
        if form == "kernel":
            _need_kernel(u.device)
            from sonoformer.nn.scan_kernel import kernel_scan

            return kernel_scan(u, delta, a, b, c, reverse)
        given = [x.to(kind) for x in (u, delta, a, b, c)]
        if form == "sequential":
            return sequential_scan(*given, reverse=reverse)[0]
        return _Scan.apply(*given, reverse, form == "chunked")


@torch.no_grad()
def continued_scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A piece of a longer scan: outputs, and the state `(batch, states, channels)` to go on with.

    Args:
        u: as in `selective_scan`, and the others too.
        delta: step sizes.
        a: rates.
        b: input weights.
        c: output weights.
        state: what the piece before it left; None at the beginning.
    """
    _check(u, delta, a, b, c, "blocked")
    with torch.autocast(u.device.type, enabled=False):
        u, delta, a, b, c = (x.float() for x in (u, delta, a, b, c))
        y, state, _ = forward_blocks(u, delta, a, b, c, state, reverse=False, keep=False)
    return y, state


def sequential_scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """The formulas word for word: outputs, and the last state `(batch, states, channels)`."""
    decay = torch.exp(delta.unsqueeze(2) * a.T)
    drive = (delta * u).unsqueeze(2) * b.unsqueeze(3)
    state = torch.zeros_like(drive[:, 0])
    steps = range(u.shape[1])
    outputs = []
    for t in reversed(steps) if reverse else steps:
        state = decay[:, t] * state + drive[:, t]
        outputs.append((c[:, t].unsqueeze(2) * state).sum(1))
    if reverse:
        outputs.reverse()
    return torch.stack(outputs, 1), state


class _Scan(torch.autograd.Function):
    """`blocked`, and `chunked` as the same on chunks that stand in for clips."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        reverse: bool,
        chunked: bool,
    ) -> Tensor:
        length = u.shape[1]
        count = max(1, round(math.sqrt(length))) if chunked else 1
        u, delta, b, c = (_cut(x, count) for x in (u, delta, b, c))
        state = None
        if count > 1:
            _, ends, _ = forward_blocks(u, delta, a, b, c, None, reverse=reverse, keep=False)
            state = _joined(ends, _whole_decay(delta, a), count, reverse)
        keep = any(ctx.needs_input_grad)
        y, _, starts = forward_blocks(u, delta, a, b, c, state, reverse=reverse, keep=keep)
        if keep:
            ctx.save_for_backward(u, delta, a, b, c, *starts)
            ctx.reverse, ctx.count, ctx.length = reverse, count, length
        return _joint(y, count, length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, a, b, c, *starts = ctx.saved_tensors
        count, length, reverse = ctx.count, ctx.length, ctx.reverse
        dy = _cut(dy, count)
        carry = None
        if count > 1:
            # The adjoint is the same recurrence in the other direction, driven by c dy.
            first = _adjoints(delta, a, c, dy, reverse)
            carry = _joined(first, _whole_decay(delta, a), count, not reverse)
        found = backward_blocks(u, delta, a, b, c, dy, tuple(starts), carry, reverse=reverse)
        du, ddelta, da, db, dc = found
        tokens = [_joint(x, count, length) for x in (du, ddelta, db, dc)]
        return tokens[0], tokens[1], da, tokens[2], tokens[3], None, None


def _adjoints(delta: Tensor, a: Tensor, c: Tensor, dy: Tensor, reverse: bool) -> Tensor:
    """What each chunk, alone, hands to the one before it: decay times adjoint of its first state.

    g_t = c_t dy_t + decay_(t+1) g_(t+1), and the chunk before gets decay_t g_t.
    """
    steps = range(delta.shape[1])
    carry = torch.zeros_like(c[:, 0].unsqueeze(2) * dy[:, 0].unsqueeze(1))
    for t in steps if reverse else reversed(steps):
        carry = torch.addcmul(carry, c[:, t].unsqueeze(2), dy[:, t].unsqueeze(1))
        carry = carry * torch.exp(delta[:, t].unsqueeze(1) * a.T)
    return carry


def _whole_decay(delta: Tensor, a: Tensor) -> Tensor:
    """Decay over a whole chunk; `a` does not depend on the token, so the sum of delta says it."""
    return torch.exp(delta.sum(1).unsqueeze(1) * a.T)


def _joined(ends: Tensor, decay: Tensor, count: int, reverse: bool) -> Tensor:
    """State at the beginning of each chunk, from what each adds and by what it decays.

    `(batch x count, states, channels)` -> the same.
    """
    ends, decay = ends.unflatten(0, (-1, count)), decay.unflatten(0, (-1, count))
    found = torch.zeros_like(ends)
    order = list(range(count))
    if reverse:
        order.reverse()
    for before, now in pairwise(order):
        found[:, now] = torch.addcmul(ends[:, before], decay[:, before], found[:, before])
    return found.flatten(0, 1)


def _cut(x: Tensor, count: int) -> Tensor:
    """`(batch, tokens, k)` -> `(batch x count, tokens / count, k)`; zeros (delta = 0) behind."""
    if count == 1:
        return x
    size = -(-x.shape[1] // count)
    x = torch.nn.functional.pad(x, (0, 0, 0, size * count - x.shape[1]))
    return x.unflatten(1, (count, size)).flatten(0, 1)


def _joint(x: Tensor, count: int, length: int) -> Tensor:
    """The reverse of `_cut`."""
    return x if count == 1 else x.unflatten(0, (-1, count)).flatten(1, 2)[:, :length]


def _usual(device: torch.device) -> Form:
    if device.type == "cpu":
        return "blocked"
    return "kernel" if device.type == "cuda" and _TRITON else "chunked"


def _need_kernel(device: torch.device) -> None:
    if not _TRITON:
        raise ValueError(
            "form: kernel needs the package triton, which torch for CUDA brings and which is not "
            "installed here; take auto"
        )
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"form: kernel needs tensors on a CUDA device, these are on {device}; move them or "
            "take auto"
        )


def _check(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, form: str) -> None:
    batch, length, channels = u.shape
    if length == 0:
        raise ValueError("a scan needs at least one token; got none")
    wanted = {
        "delta": (delta, (batch, length, channels)),
        "a": (a, (channels, a.shape[-1])),
        "b": (b, (batch, length, a.shape[-1])),
        "c": (c, (batch, length, a.shape[-1])),
    }
    for name, (value, shape) in wanted.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} should be {shape}; got {tuple(value.shape)}")
    if form not in get_args(Form):
        raise ValueError(f"form should be one of {', '.join(get_args(Form))}; got {form!r}")
