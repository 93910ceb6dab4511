"""State-space duality (Dao & Gu 2024, sections 5 and 6): a selective scan made of matrix products.

One decay for all states and channels of a head makes the recurrence

    h_t = exp(delta_t a) h_(t-1) + delta_t b_t u_t^T,     y_t = c_t h_t

equal, inside a chunk of tokens, to attention without softmax under a mask of decays: with S_t the
sum of delta a up to t,

    y_i = sum_(j <= i) exp(S_i - S_j) (c_i . b_j) delta_j u_j  +  exp(S_i) c_i H

where H is the state before the chunk; only H goes from chunk to chunk. No exponent is above 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.nn.mamba import CausalConv, Memory, join, step_bias
from sonoformer.nn.scan_export import passed_on_node

_CHUNK = 64
"""Tokens of a chunk; products of 64 x 64 suit caches and tensor cores."""


def dual_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The recurrence along the tokens of each clip, from state zero, in fp32 at least.

    Args:
        u: inputs `(batch, tokens, heads, width)`.
        delta: step sizes `(batch, tokens, heads)`; 0 passes a token over.
        a: `(heads,)`, below zero.
        b: `(batch, tokens, states)`, shared by the heads.
        c: `(batch, tokens, states)`.

    Returns:
        `(batch, tokens, heads, width)`.

    Raises:
        ValueError: no tokens.
    """
    y, _ = dual_pieces(u, delta, a, b, c, None)
    return y


def dual_pieces(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `dual_scan`, from `state` `(batch, heads, states, width)`, and the last state."""
    if not u.shape[1]:
        raise ValueError("a scan needs at least one token; got none")
    with torch.autocast(u.device.type, enabled=False):
        kind = torch.promote_types(u.dtype, torch.float32)
        u, delta, a, b, c = (x.to(kind) for x in (u, delta, a, b, c))
        length = u.shape[1]
        # Rounded up without negative numbers, which ONNX divides in another way.
        count = (length + _CHUNK - 1) // _CHUNK
        drive, log_decay, b, c = (
            _chunks(x, count) for x in (u * delta.unsqueeze(3), delta * a, b, c)
        )
        # (batch, chunks, heads, steps, ...) from here on.
        drive = drive.transpose(2, 3)
        total = log_decay.transpose(2, 3).cumsum(3)
        inside = _inside(total, b, c) @ drive
        by_end = torch.exp(total[..., -1:] - total)
        ends = b.mT.unsqueeze(2) @ (drive * by_end.unsqueeze(4))
        before, last = _passed_on(ends, torch.exp(total[..., -1]), state)
        across = (c.unsqueeze(2) @ before) * torch.exp(total).unsqueeze(4)
        y = (inside + across).transpose(2, 3).flatten(1, 2)
    return y[:, :length], last


def _inside(total: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """exp(S_i - S_j) (c_i . b_j) for j <= i, `(batch, chunks, heads, steps, steps)`."""
    gap = total.unsqueeze(4) - total.unsqueeze(3)
    later = torch.ones(_CHUNK, _CHUNK, dtype=torch.bool, device=b.device).triu(1)
    # Before the exponential, which would overflow there and spoil the gradient.
    gap = gap.masked_fill(later, -torch.inf)
    return torch.exp(gap) * (c @ b.mT).unsqueeze(2)


def _passed_on(ends: Tensor, decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """State before each chunk, from what each adds and by what it decays; and the last state."""
    now = torch.zeros_like(ends[:, 0]) if state is None else state.to(ends.dtype)
    if torch.compiler.is_exporting():
        return passed_on_node(ends, decay, now), now
    before = []
    for chunk, share in zip(ends.unbind(1), decay.unbind(1), strict=True):
        before.append(now)
        now = torch.addcmul(chunk, share[..., None, None], now)
    return torch.stack(before, 1), now


def _chunks(x: Tensor, count: int) -> Tensor:
    """`(batch, tokens, ...)` -> `(batch, chunks, steps, ...)`; zeros behind the last token."""
    short = count * _CHUNK - x.shape[1]
    x = F.pad(x, (*[0] * (2 * (x.ndim - 2)), 0, short))
    return x.unflatten(1, (count, _CHUNK))


class DualDirection(nn.Module):
    """Convolution, step sizes and scan along one direction.

    Args:
        channels: inner width.
        states: of each head.
        heads: that the channels are divided into.
        taps: of the convolution.
    """

    def __init__(self, channels: int, states: int, heads: int, taps: int) -> None:
        super().__init__()
        self.states, self.heads = states, heads
        self.conv = CausalConv(channels + 2 * states, taps)
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.dt_bias = nn.Parameter(step_bias(torch.rand(heads)))

    def forward(
        self, u: Tensor, steps: Tensor, valid: Tensor | None = None, reverse: bool = False
    ) -> Tensor:
        """Channels, input and output weights `(batch, tokens, channels + 2 states)` -> outputs.

        `steps` `(batch, tokens, heads)` before bias and softplus; `valid` as in `mamba.Direction`.
        """
        mixed = F.silu(self.conv(u, reverse))
        delta = self.choose(steps)
        if valid is not None:
            delta = delta.masked_fill(~valid.unsqueeze(-1), 0.0)
        # Padding lies behind the tokens, so turned round it comes first and leaves the state zero.
        parts = (mixed.flip(1), delta.flip(1)) if reverse else (mixed, delta)
        x, b, c = self.split(parts[0])
        y = dual_scan(x, parts[1], self.rates(), b, c)
        y = (y + self.D.to(y.dtype).unsqueeze(1) * x).flatten(2)
        return y.flip(1) if reverse else y

    def continued(self, u: Tensor, steps: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """A piece of a longer line; `memory` is what the piece before it left."""
        joined, keep, state = join(u, memory, self.conv.weight.shape[2] - 1)
        x, b, c = self.split(F.silu(self.conv(joined)[:, -u.shape[1] :]))
        y, state = dual_pieces(x, self.choose(steps), self.rates(), b, c, state)
        return (y + self.D.to(y.dtype).unsqueeze(1) * x).flatten(2), (keep, state)

    def choose(self, steps: Tensor) -> Tensor:
        """Step sizes, in fp32."""
        kind = torch.promote_types(steps.dtype, torch.float32)
        return F.softplus(steps.to(kind) + self.dt_bias.to(kind))

    def split(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u by heads, b and c."""
        sizes = [mixed.shape[-1] - 2 * self.states, self.states, self.states]
        x, b, c = mixed.split(sizes, dim=-1)
        return x.unflatten(2, (self.heads, -1)), b, c

    def rates(self) -> Tensor:
        """a, below zero: `(heads,)`."""
        kind = torch.promote_types(self.A_log.dtype, torch.float32)
        return -torch.exp(self.A_log.to(kind))


class BiDual(nn.Module):
    """The mixer of a block: as `mamba.BiMamba`, with `dual_scan`, and a norm before W_out.

    Channels and gate are shared by the directions; input and output weights and step sizes come
    from the same projection, each direction's own.

    Args:
        dim: width.
        states: of each head.
        heads: that the inner channels are divided into.
        expand: inner width over `dim`.
        taps: of the convolutions.
        both: whether tokens hear those behind them too.
    """

    def __init__(
        self, dim: int, states: int, heads: int, expand: int, taps: int, both: bool = True
    ) -> None:
        super().__init__()
        inner = expand * dim
        self.sizes = [inner, inner, *[2 * states, heads] * (1 + both)]
        self.in_proj = nn.Linear(dim, sum(self.sizes), bias=False)
        self.ahead = DualDirection(inner, states, heads, taps)
        self.back = DualDirection(inner, states, heads, taps) if both else None
        self.norm = nn.RMSNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None, turned: bool = False) -> Tensor:
        """`(batch, tokens, dim)` -> the same; as `mamba.BiMamba`."""
        u, z, *rest = self.in_proj(x).split(self.sizes, dim=-1)
        y = self._one(self.ahead, u, rest[0], rest[1], valid, turned)
        if self.back is not None:
            y = (y + self._one(self.back, u, rest[2], rest[3], valid, not turned)) / 2
        return self._out(y, z)

    def continued(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """As `forward` on a piece of a longer line, of an encoder that hears forward alone."""
        u, z, weights, steps = self.in_proj(x).split(self.sizes, dim=-1)
        y, memory = self.ahead.continued(torch.cat([u, weights], -1), steps, memory)
        return self._out(y, z), memory

    def _out(self, y: Tensor, z: Tensor) -> Tensor:
        kind = self.out_proj.weight.dtype
        return self.out_proj(self.norm((y * F.silu(z)).to(kind)))

    @staticmethod
    def _one(
        way: DualDirection,
        u: Tensor,
        weights: Tensor,
        steps: Tensor,
        valid: Tensor | None,
        reverse: bool,
    ) -> Tensor:
        together = torch.cat([u, weights], -1)
        if valid is not None:
            together = together.masked_fill(~valid.unsqueeze(-1), 0.0)
        return way(together, steps, valid, reverse)
