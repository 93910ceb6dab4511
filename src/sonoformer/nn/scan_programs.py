"""Triton programs of the selective scan; `scan_kernel` starts them, `selective_scan` has formulas.

A program is one warp that walks along a piece of a clip, a token at a time, with the state of some
channels in registers. Tiles are `[P, K, J, L]`: a lane holds P channels that lie side by side in
memory and K states that do; L lanes share out the channels, J the states (Triton gives the last
dimensions to the lanes and the first ones to a lane's registers). Vectors of channels are `[P, L]`,
those of states `[K, J]`.

"First", "last" and "before" are meant in the order of the scan; REVERSE turns only the addresses
round. Rates come multiplied by log2(e), `(states, channels)`, as do all states.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _place(
    length: tl.tensor, channels: tl.tensor, piece: tl.tensor, P: tl.constexpr, L: tl.constexpr
) -> tl.tuple:
    """Which block of channels, piece and clip; neighbours share rows of memory."""
    blocks, pieces = tl.cdiv(channels, P * L), tl.cdiv(length, piece)
    number = tl.program_id(0)
    row = number // blocks
    return number % blocks, row % pieces, (row // pieces).to(tl.int64), pieces


@triton.jit
def _cells(
    block: tl.tensor,
    channels: tl.tensor,
    N: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    J: tl.constexpr,
    L: tl.constexpr,
) -> tl.tuple:
    """Numbers of the channels and states, where their cells lie, and which of these exist."""
    channel = block * P * L + tl.arange(0, P)[:, None] + tl.arange(0, L)[None, :] * P
    state = tl.arange(0, K)[:, None] + tl.arange(0, J)[None, :] * K
    cell = state[None, :, :, None] * channels + channel[:, None, None, :]
    exist = (state < N)[None, :, :, None] & (channel < channels)[:, None, None, :]
    return channel, state, cell, exist


@triton.jit
def _live(
    really: tl.tensor, channel: tl.tensor, channels: tl.tensor, state: tl.tensor, N: tl.constexpr
) -> tl.tuple:
    """Which channels and states exist at a token, none behind a piece's last."""
    return channel < tl.where(really, channels, 0), state < tl.where(really, N, 0)


@triton.jit
def _outer(along_channels: tl.tensor, along_states: tl.tensor) -> tl.tensor:
    return along_channels[:, None, None, :] * along_states[None, :, :, None]


@triton.jit
def _over_states(x: tl.tensor) -> tl.tensor:
    return tl.sum(tl.sum(x, 1), 1)


@triton.jit
def _over_channels(x: tl.tensor) -> tl.tensor:
    return tl.sum(tl.sum(x, 0), 2)


@triton.jit
def _decay(delta: tl.tensor, rates: tl.tensor) -> tl.tensor:
    return tl.exp2(delta[:, None, None, :] * rates)


@triton.jit(do_not_specialize=["length", "piece"])
def forward(
    u: tl.tensor,
    delta: tl.tensor,
    rates: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    starts: tl.tensor,
    y: tl.tensor,
    saved: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    piece: tl.tensor,
    u_clip: tl.tensor,
    u_token: tl.tensor,
    delta_clip: tl.tensor,
    delta_token: tl.tensor,
    N: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    J: tl.constexpr,
    L: tl.constexpr,
    REVERSE: tl.constexpr,
    EVERY: tl.constexpr,
) -> None:
    """Pieces from the states at their `starts`: outputs `y`, states `saved` before every so many
    tokens; either may be None. Pieces are multiples of EVERY."""
    block, at, clip, pieces = _place(length, channels, piece, P, L)
    channel, state, cell, exist = _cells(block, channels, N, P, K, J, L)
    inside, known = channel < channels, state < N
    kind = rates.dtype.element_ty
    a = tl.load(rates + cell, mask=exist, other=0.0)
    h = tl.load(starts + (clip * pieces + at) * N * channels + cell, mask=exist, other=0.0)
    first = at * piece
    last = min(first + piece, length)
    step = -1 if REVERSE else 1
    token = (length - 1 - first if REVERSE else first).to(tl.int64)
    row = clip * length + token
    u += clip * u_clip + token * u_token
    delta += clip * delta_clip + token * delta_token
    b += row * N
    if y is not None:
        c += row * N
        y += row * channels
    for begin in range(first, last, EVERY):
        if saved is not None:
            number = clip * tl.cdiv(length, EVERY) + begin // EVERY
            tl.store(saved + number * N * channels + cell, h, mask=exist)
        for _ in range(begin, min(begin + EVERY, last)):
            by = tl.load(delta + channel, mask=inside, other=0.0).to(kind)
            drive = by * tl.load(u + channel, mask=inside, other=0.0).to(kind)
            h = _decay(by, a) * h + _outer(drive, tl.load(b + state, mask=known, other=0.0))
            u += step * u_token
            delta += step * delta_token
            b += step * N
            if y is not None:
                weights = tl.load(c + state, mask=known, other=0.0)
                tl.store(y + channel, _over_states(h * weights[None, :, :, None]), mask=inside)
                c += step * N
                y += step * channels


@triton.jit(do_not_specialize=["length", "piece"])
def summarise(
    x: tl.tensor,
    delta: tl.tensor,
    rates: tl.tensor,
    weights: tl.tensor,
    ends: tl.tensor,
    steps: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    piece: tl.tensor,
    x_clip: tl.tensor,
    x_token: tl.tensor,
    delta_clip: tl.tensor,
    delta_token: tl.tensor,
    N: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    J: tl.constexpr,
    L: tl.constexpr,
    REVERSE: tl.constexpr,
    ADJOINT: tl.constexpr,
) -> None:
    """What each piece, alone, hands to the next: its last state from zero, and its sum of delta.

    `x` is u and `weights` b. ADJOINT: the gradient's recurrence, from a piece's last token to its
    first; `x` is dy and `weights` c, and what is handed on has decayed over the first token.
    """
    block, at, clip, pieces = _place(length, channels, piece, P, L)
    channel, state, cell, exist = _cells(block, channels, N, P, K, J, L)
    inside, known = channel < channels, state < N
    kind = rates.dtype.element_ty
    a = tl.load(rates + cell, mask=exist, other=0.0)
    h = tl.zeros([P, K, J, L], kind)
    total = tl.zeros([P, L], kind)
    first = at * piece
    last = min(first + piece, length)
    place = last - 1 if ADJOINT else first
    step = 1 if REVERSE == ADJOINT else -1
    token = (length - 1 - place if REVERSE else place).to(tl.int64)
    x += clip * x_clip + token * x_token
    delta += clip * delta_clip + token * delta_token
    weights += (clip * length + token) * N
    for _ in range(first, last):
        by = tl.load(delta + channel, mask=inside, other=0.0).to(kind)
        value = tl.load(x + channel, mask=inside, other=0.0).to(kind)
        weight = tl.load(weights + state, mask=known, other=0.0)
        if ADJOINT:
            h = _decay(by, a) * (h + _outer(value, weight))
        else:
            h = _decay(by, a) * h + _outer(by * value, weight)
        total += by
        x += step * x_token
        delta += step * delta_token
        weights += step * N
    number = clip * pieces + at
    tl.store(ends + number * N * channels + cell, h, mask=exist)
    tl.store(steps + number * channels + channel, total, mask=inside)


@triton.jit(do_not_specialize=["pieces"])
def pass_on(
    ends: tl.tensor,
    steps: tl.tensor,
    rates: tl.tensor,
    pieces: tl.tensor,
    channels: tl.tensor,
    N: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    J: tl.constexpr,
    L: tl.constexpr,
    ADJOINT: tl.constexpr,
) -> None:
    """Puts what reaches each piece in place of what it hands on, over all pieces of a clip."""
    block, _, clip, _ = _place(1, channels, 1, P, L)
    channel, _, cell, exist = _cells(block, channels, N, P, K, J, L)
    inside = channel < channels
    a = tl.load(rates + cell, mask=exist, other=0.0)
    h = tl.zeros_like(a)
    for count in range(pieces):
        number = clip * pieces + (pieces - 1 - count if ADJOINT else count)
        where = ends + number * N * channels + cell
        end = tl.load(where, mask=exist, other=0.0)
        by = tl.load(steps + number * channels + channel, mask=inside, other=0.0)
        tl.store(where, h, mask=exist)
        h = _decay(by, a) * h + end


@triton.jit(do_not_specialize=["length", "piece", "clips"])
def backward(
    u: tl.tensor,
    delta: tl.tensor,
    rates: tl.tensor,
    b: tl.tensor,
    c: tl.tensor,
    dy: tl.tensor,
    saved: tl.tensor,
    carries: tl.tensor,
    du: tl.tensor,
    ddelta: tl.tensor,
    db: tl.tensor,
    dc: tl.tensor,
    da: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    piece: tl.tensor,
    clips: tl.tensor,
    u_clip: tl.tensor,
    u_token: tl.tensor,
    delta_clip: tl.tensor,
    delta_token: tl.tensor,
    dy_clip: tl.tensor,
    dy_token: tl.tensor,
    N: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    J: tl.constexpr,
    L: tl.constexpr,
    REVERSE: tl.constexpr,
    EVERY: tl.constexpr,
) -> None:
    """Gradients (formulas in `scan_blocks.backward_blocks`), from a piece's last tokens to its
    first: EVERY tokens ahead from a saved state, states kept in registers, and back.

    db and dc are sums over this block of channels, da over this piece; others add them up, in the
    same order each time.
    """
    block, at, clip, pieces = _place(length, channels, piece, P, L)
    channel, state, cell, exist = _cells(block, channels, N, P, K, J, L)
    kind = rates.dtype.element_ty
    a = tl.load(rates + cell, mask=exist, other=0.0)
    carry = tl.load(carries + (clip * pieces + at) * N * channels + cell, mask=exist, other=0.0)
    slope = tl.zeros_like(a)
    first = at * piece
    last = min(first + piece, length)
    step = -1 if REVERSE else 1
    runs = tl.cdiv(last - first, EVERY)
    for back in range(runs):
        begin = first + (runs - 1 - back) * EVERY
        token = (length - 1 - begin if REVERSE else begin).to(tl.int64)
        row = clip * length + token
        from_u = u + clip * u_clip + token * u_token + channel
        from_delta = delta + clip * delta_clip + token * delta_token + channel
        from_dy = dy + clip * dy_clip + token * dy_token + channel
        number = clip * tl.cdiv(length, EVERY) + begin // EVERY
        h = tl.load(saved + number * N * channels + cell, mask=exist, other=0.0)
        before: tl.tuple = ()
        for t in tl.static_range(EVERY):
            before += (h,)
            on, some = _live(begin + t < last, channel, channels, state, N)
            by = tl.load(from_delta + t * step * delta_token, mask=on, other=0.0).to(kind)
            one = tl.load(from_u + t * step * u_token, mask=on, other=0.0).to(kind)
            into = tl.load(b + (row + t * step) * N + state, mask=some, other=0.0)
            h = _decay(by, a) * h + _outer(by * one, into)
        for t in tl.static_range(EVERY - 1, -1, -1):
            on, some = _live(begin + t < last, channel, channels, state, N)
            by = tl.load(from_delta + t * step * delta_token, mask=on, other=0.0).to(kind)
            one = tl.load(from_u + t * step * u_token, mask=on, other=0.0).to(kind)
            dout = tl.load(from_dy + t * step * dy_token, mask=on, other=0.0).to(kind)
            into = tl.load(b + (row + t * step) * N + state, mask=some, other=0.0)
            out = tl.load(c + (row + t * step) * N + state, mask=some, other=0.0)
            g = carry + _outer(dout, out)
            part = ((block * clips + clip) * length + token + t * step) * N + state
            tl.store(dc + part, _over_channels(h * dout[:, None, None, :]), mask=some)
            tl.store(db + part, _over_channels(g * (by * one)[:, None, None, :]), mask=some)
            through = _over_states(g * into[None, :, :, None])
            carry = _decay(by, a) * g
            h = before[t]
            m = carry * h
            slope += m * by[:, None, None, :]
            slow = _over_states(m * a) * _LN2
            where = (row + t * step) * channels + channel
            tl.store(du + where, (through * by).to(du.dtype.element_ty), mask=on)
            slow += through * one
            tl.store(ddelta + where, slow.to(ddelta.dtype.element_ty), mask=on)
    tl.store(da + (clip * pieces + at) * N * channels + cell, slope, mask=exist)
