"""The bidirectional Mamba block of Vision Mamba (Zhu et al. 2024, section 3.3) and SSAMBA.

Both directions share the projections in and out and the gate; each has its own convolution, its own
step sizes, input and output weights, decays and skip. The mean of the two goes on:

    u, z = W_in LayerNorm(x)
    for a direction:  v_t = SiLU(sum_k w_k u_(t-k) + bias)              k = 0 ... taps - 1
                      r_t, b_t, c_t = W_x v_t,   delta_t = softplus(W_dt r_t + bias_dt)
                      s_t = scan(v, delta, -exp(A_log), b, c)_t + D v_t
    x + W_out ( (s_ahead + s_back) / 2 * SiLU(z) )
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.nn.blocks import DropPath
from sonoformer.nn.selective_scan import Form, continued_scan, selective_scan

Memory = tuple[Tensor, Tensor]
"""What a mixer keeps from piece to piece: the last inputs of its convolution, and the state."""

_LONG = 2048
"""Tokens from which the clips of a batch are mixed one by one."""


class CausalConv(nn.Module):
    """A filter for each channel over a token and those before it; `weight` as of a Conv1d.

    Args:
        channels: number of filters.
        taps: tokens that a filter reaches over, its own included.
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        layer = nn.Conv1d(channels, channels, taps, groups=channels)
        assert layer.bias is not None
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor, reverse: bool = False) -> Tensor:
        """`(batch, tokens, channels)` -> the same; `reverse`: over the tokens behind it instead."""
        taps, length = self.weight.shape[2], x.shape[1]
        padded = F.pad(x, (0, 0, 0, taps - 1) if reverse else (0, 0, taps - 1, 0))
        weight = self.weight[:, 0].flip(1) if reverse else self.weight[:, 0]
        out = self.bias.to(x.dtype)
        # A product and a sum for each tap: channels lie side by side, which a convolution's own
        # kernels would first have to undo.
        for tap in range(taps):
            out = torch.addcmul(out, padded[:, tap : tap + length], weight[:, tap].to(x.dtype))
        return out


class Direction(nn.Module):
    """Convolution, selection and scan along one direction.

    Args:
        channels: inner width.
        states: of each channel.
        rank: width in which step sizes are chosen.
        taps: of the convolution.

    Attributes:
        form: how the scan is computed, see `selective_scan`.
    """

    form: Form = "auto"

    def __init__(self, channels: int, states: int, rank: int, taps: int) -> None:
        super().__init__()
        self.conv = CausalConv(channels, taps)
        self.x_proj = nn.Linear(channels, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        rates = torch.arange(1, states + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(rates.log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step_bias(torch.rand(channels)))

    def forward(self, u: Tensor, valid: Tensor | None = None, reverse: bool = False) -> Tensor:
        """`(batch, tokens, channels)` -> the same, in fp32.

        `valid` `(batch, tokens)`: other tokens have to lie behind these, hold zeros, and leave the
        state as it is, so that in reverse a clip begins at its last valid token.
        """
        x = F.silu(self.conv(u, reverse))
        delta, b, c = self.choose(x)
        if valid is not None:
            delta = delta.masked_fill(~valid.unsqueeze(-1), 0.0)
        y = selective_scan(x, delta, self.rates(), b, c, reverse=reverse, form=self.form)
        return torch.addcmul(y, self.D.to(y.dtype), x.to(y.dtype))

    def continued(self, u: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """A piece of a longer line, no gradients; `memory` is what the piece before it left."""
        joined, keep, state = join(u, memory, self.conv.weight.shape[2] - 1)
        x = F.silu(self.conv(joined)[:, -u.shape[1] :])
        delta, b, c = self.choose(x)
        y, state = continued_scan(x, delta, self.rates(), b, c, state)
        return torch.addcmul(y, self.D.to(y.dtype), x.to(y.dtype)), (keep, state)

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes, in fp32, and input and output weights of the tokens."""
        states = self.A_log.shape[1]
        sizes = [self.dt_proj.in_features, states, states]
        rank, b, c = self.x_proj(x).split(sizes, dim=-1)
        steps = F.linear(rank, self.dt_proj.weight)
        # The bias is 1e-3 at its smallest after softplus: rounded to half precision it is lost.
        kind = torch.promote_types(steps.dtype, torch.float32)
        return F.softplus(steps.to(kind) + self.dt_proj.bias.to(kind)), b, c

    def rates(self) -> Tensor:
        """a, below zero: `(channels, states)`."""
        kind = torch.promote_types(self.A_log.dtype, torch.float32)
        return -torch.exp(self.A_log.to(kind))


class BiMamba(nn.Module):
    """The mixer of a block.

    Args:
        dim: width.
        states: of each inner channel.
        expand: inner width over `dim`.
        taps: of the convolutions.
        rank: width in which step sizes are chosen.
        both: whether tokens hear those behind them too.
    """

    def __init__(
        self, dim: int, states: int, expand: int, taps: int, rank: int, both: bool = True
    ) -> None:
        super().__init__()
        inner = expand * dim
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.ahead = Direction(inner, states, rank, taps)
        self.back = Direction(inner, states, rank, taps) if both else None
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None, turned: bool = False) -> Tensor:
        """`(batch, tokens, dim)` -> the same.

        Args:
            x: the tokens.
            valid: `(batch, tokens)`, true for the first tokens of each clip.
            turned: the directions change roles, as if each clip's tokens came from its end on.
        """
        u, z = self.in_proj(x).chunk(2, dim=-1)
        if valid is not None:
            u = u.masked_fill(~valid.unsqueeze(-1), 0.0)
        y = self.ahead(u, valid, turned)
        if self.back is not None:
            y = (y + self.back(u, valid, not turned)) / 2
        return self.out_proj((y * F.silu(z)).to(_accepted(y, self.out_proj)))

    def continued(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """As `forward` on a piece of a longer line, of an encoder that hears forward alone."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        y, memory = self.ahead.continued(u, memory)
        return self.out_proj((y * F.silu(z)).to(_accepted(y, self.out_proj))), memory


def eager_on_cpu(x: Tensor) -> bool:
    """Whether operations run one by one on a CPU, where caches decide what a step costs."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _one_by_one(x: Tensor) -> bool:
    """Whether the clips of a batch are mixed one after the other: on a CPU, whose caches do not
    hold what a mixer makes of several long ones. Twice as fast from 8,000 tokens on."""
    return x.shape[0] > 1 and x.shape[1] >= _LONG and eager_on_cpu(x)


class MambaBlock(nn.Module):
    """`x + mixer(norm(x))`.

    Args:
        dim: width.
        mixer: makes a mixer, called as `BiMamba`.
        drop_path: probability of leaving the branch out.
        norm_eps: epsilon of the norm.
    """

    def __init__(
        self,
        dim: int,
        mixer: Callable[[], nn.Module],
        drop_path: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.mixer = mixer()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`(batch, tokens, dim)` -> the same; `valid` as in `BiMamba`."""
        return x + self.branch(x, valid)

    def continued(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        """As `forward` on a piece of a longer line; `memory` is what the piece before it left."""
        added, memory = self.mixer.continued(self.norm(x), memory)  # type: ignore[operator]
        return x + added, memory

    def branch(self, x: Tensor, valid: Tensor | None = None, turned: bool = False) -> Tensor:
        """What is added to `x`."""
        if not _one_by_one(x):
            return self.drop_path(self.mixer(self.norm(x), valid, turned))
        masks = [None] * len(x) if valid is None else valid.split(1)
        mixed = [
            self.mixer(self.norm(one), mask, turned)
            for one, mask in zip(x.split(1), masks, strict=True)
        ]
        return self.drop_path(torch.cat(mixed))


class Pair(nn.Module):
    """Two blocks as the authors of SSAMBA join them (`reference`): 2 x + one(x) + other(turned x).

    Both have two directions, and still the second sees the tokens from the end on. As each carries
    the whole residual stream and the streams are added, it doubles at every pair: over 12 pairs
    first layers weigh 4096 times as much as last ones, and half precision overflows. Only their
    published weights need it.

    Args:
        one: a block.
        other: another.
    """

    def __init__(self, one: MambaBlock, other: MambaBlock) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`(batch, tokens, dim)` -> the same, in fp32 at least."""
        added = self.one.branch(x, valid) + self.other.branch(x, valid, turned=True)
        return 2 * x + added.to(torch.promote_types(x.dtype, added.dtype))


def join(u: Tensor, memory: Memory | None, taps: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """A piece behind the `taps` tokens before it, the last `taps` of both, and the state so far."""
    tail = u.new_zeros(u.shape[0], taps, u.shape[2]) if memory is None else memory[0]
    joined = torch.cat([tail, u], 1)
    return joined, joined[:, joined.shape[1] - taps :], None if memory is None else memory[1]


def step_bias(uniform: Tensor) -> Tensor:
    """Bias whose softplus is a step of 0.001 to 0.1, evenly in its logarithm; from [0, 1)."""
    low, high = math.log(1e-3), math.log(0.1)
    step = torch.exp(uniform * (high - low) + low).clamp_min(1e-4)
    return step + torch.log(-torch.expm1(-step))


def _accepted(y: Tensor, layer: nn.Linear) -> torch.dtype:
    """What a linear layer takes: under autocast anything, else what its weights are."""
    return y.dtype if torch.is_autocast_enabled(y.device.type) else layer.weight.dtype
