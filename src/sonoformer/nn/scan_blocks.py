"""The selective scan and its gradient, a block of steps at a time; formulas in `selective_scan`.

In a block all decays exp(delta a) and inputs delta b u are made at once, `(steps, clips, states,
channels)`, small enough to stay in the cache; each step is then one fused product and sum in place,
on views that are made once for all blocks; the outputs of the block are a batch of products.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

_STEPS = 32
"""Steps of a block."""
_CELLS = 8192
"""States of the clips that a CPU takes at a time; more of them leave the cache."""


def forward_blocks(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    state: Tensor | None,
    *,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """The recurrence.

    Args:
        u: `(batch, tokens, channels)`.
        delta: the same.
        a: `(channels, states)`.
        b: `(batch, tokens, states)`.
        c: the same.
        state: `(batch, states, channels)` before the first step; zero if None.
        reverse: from the last token to the first.
        keep: also return the states before each block.

    Returns:
        Outputs `(batch, tokens, channels)`, last state `(batch, states, channels)`, and for each
        slice of clips `(blocks, clips, states, channels)`, empty without `keep`.
    """
    batch, length, channels = u.shape
    rates = a.T.contiguous()
    last = u.new_zeros(batch, *rates.shape) if state is None else state.to(u.dtype).clone()
    y = torch.empty(batch, length, channels, dtype=u.dtype, device=u.device)
    starts = []
    for clips in _slices(batch, rates):
        work = _Work(clips.stop - clips.start, min(_STEPS, length), rates, 2)
        now, found = last[clips], []
        for steps in _blocks(length, reverse):
            if keep:
                found.append(now.clone())
            work.decays(delta[clips, steps], rates)
            states = work.drives(delta[clips, steps] * u[clips, steps], b[clips, steps])
            work.run(now, len(states), reverse)
            y[clips, steps] = _contract(c[clips, steps], states)
        if keep:
            starts.append(torch.stack(found))
    return y, last, tuple(starts)


def backward_blocks(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    dy: Tensor,
    starts: tuple[Tensor, ...],
    carry: Tensor | None,
    *,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, a, b and c.

    With g_t the gradient of h_t, d_t = exp(delta_t a), all in the order of the scan:

        g_t = c_t dy_t + d_(t+1) g_(t+1)              dc_t = sum_c dy_t h_t
        db_t = sum_c g_t delta_t u_t                  du_t = delta_t sum_n g_t b_t
        m_t = g_t d_t h_(t-1)                         da = sum_t m_t delta_t
        ddelta_t = u_t sum_n g_t b_t + sum_n m_t a

    Args:
        u: as in `forward_blocks`, and delta, a, b, c.
        delta: step sizes.
        a: rates.
        b: input weights.
        c: output weights.
        dy: gradient of the outputs, `(batch, tokens, channels)`.
        starts: states before each block, as `forward_blocks` keeps them.
        carry: d_(t+1) g_(t+1) of what follows the last step; zero if None.
        reverse: as there.
    """
    batch, length, _ = u.shape
    rates = a.T.contiguous()
    du, ddelta, db, dc = (torch.empty_like(x) for x in (u, delta, b, c))
    da = torch.zeros_like(rates)
    blocks = list(enumerate(_blocks(length, reverse)))
    for clips, before in zip(_slices(batch, rates), starts, strict=True):
        work = _Work(clips.stop - clips.start, min(_STEPS, length), rates, 3)
        ahead = torch.zeros_like(before[0]) if carry is None else carry[clips].clone()
        for number, steps in reversed(blocks):
            at, by = u[clips, steps], delta[clips, steps]
            work.decays(by, rates)
            states = work.drives(by * at, b[clips, steps])
            work.run(before[number].clone(), len(states), reverse)
            dc[clips, steps] = _inner(states, dy[clips, steps])
            g = work.adjoint(c[clips, steps], dy[clips, steps], ahead, reverse)
            db[clips, steps] = _inner(g, by * at)
            through = _contract(b[clips, steps], g)
            du[clips, steps] = through * by
            m = work.products(before[number], len(g), reverse)
            slow = (m * rates).sum(2).transpose(0, 1)
            ddelta[clips, steps] = torch.addcmul(slow, through, at)
            da += m.mul_(by.transpose(0, 1).unsqueeze(2)).sum((0, 1))
    return du, ddelta, da.T, db, dc


class _Work:
    """Room for a block of a slice of clips, used again for each.

    Args:
        clips: of the slice.
        steps: of the longest block.
        rates: `(states, channels)`.
        count: 2 for decays and states, 3 for their adjoints too.
    """

    def __init__(self, clips: int, steps: int, rates: Tensor, count: int) -> None:
        self.room = [rates.new_empty(steps, clips, *rates.shape) for _ in range(count)]
        self.views = [room.unbind(0) for room in self.room]

    def decays(self, delta: Tensor, rates: Tensor) -> None:
        """exp(delta a) of `delta` `(clips, steps, channels)`."""
        count = delta.shape[1]
        torch.mul(delta.transpose(0, 1).unsqueeze(2), rates, out=self.room[0][:count])
        self.room[0][:count].exp_()

    def drives(self, du: Tensor, b: Tensor) -> Tensor:
        """delta u b, where the states come to lie: `(steps, clips, states, channels)`."""
        room = self.room[1][: du.shape[1]]
        left, right = du.transpose(0, 1).unsqueeze(2), b.transpose(0, 1).unsqueeze(3)
        return torch.mul(left, right, out=room)

    def run(self, now: Tensor, count: int, reverse: bool) -> None:
        """Drives -> states, step by step; `now`, the state before, becomes the last one."""
        decay, states = self.views[:2]
        previous = now
        for t in _order(count, reverse):
            previous = states[t].addcmul_(decay[t], previous)
        now.copy_(previous)

    def adjoint(self, c: Tensor, dy: Tensor, ahead: Tensor, reverse: bool) -> Tensor:
        """g_t of the block; `ahead` becomes what the block before it gets."""
        count = dy.shape[1]
        decay, g = self.views[0], self.views[2]
        left, right = c.transpose(0, 1).unsqueeze(3), dy.transpose(0, 1).unsqueeze(2)
        torch.mul(left, right, out=self.room[2][:count])
        later = -1
        for t in _order(count, not reverse):
            if later < 0:
                g[t].add_(ahead)
            else:
                g[t].addcmul_(decay[later], g[later])
            later = t
        torch.mul(decay[later], g[later], out=ahead)
        return self.room[2][:count]

    def products(self, before: Tensor, count: int, reverse: bool) -> Tensor:
        """m_t = g_t d_t h_(t-1), over g and d."""
        decay, states, g = (room[:count] for room in self.room)
        decay.mul_(g)
        if reverse:
            decay[:-1].mul_(states[1:])
            decay[-1].mul_(before)
        else:
            decay[1:].mul_(states[:-1])
            decay[0].mul_(before)
        return decay


def _contract(weights: Tensor, states: Tensor) -> Tensor:
    """sum_n of weights `(clips, steps, n)` and states `(steps, clips, n, channels)`."""
    product = torch.matmul(weights.transpose(0, 1).unsqueeze(2), states)
    return product.squeeze(2).transpose(0, 1)


def _inner(states: Tensor, values: Tensor) -> Tensor:
    """sum over channels of `(steps, clips, n, channels)` and `(clips, steps, channels)`."""
    # As a product of matrices this is a copy and a call for each token.
    return (states * values.transpose(0, 1).unsqueeze(2)).sum(3).transpose(0, 1)


def _slices(batch: int, rates: Tensor) -> Iterator[slice]:
    size = max(1, _CELLS // rates.numel()) if rates.device.type == "cpu" else batch
    return (slice(i, min(i + size, batch)) for i in range(0, batch, size))


def _blocks(length: int, reverse: bool) -> Iterator[slice]:
    firsts = range(0, length, _STEPS)
    order = reversed(firsts) if reverse else firsts
    return (slice(i, min(i + _STEPS, length)) for i in order)


def _order(count: int, reverse: bool) -> Iterable[int]:
    return range(count - 1, -1, -1) if reverse else range(count)
