"""State-space duality: equal to its recurrence, with its gradients, at any length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.nn.duality import dual_pieces, dual_scan


def inputs(batch: int, length: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(length)
    return [
        torch.randn(batch, length, 2, 3, generator=g, dtype=torch.float64),
        torch.rand(batch, length, 2, generator=g, dtype=torch.float64),
        -torch.rand(2, generator=g, dtype=torch.float64) * 3 - 0.1,
        torch.randn(batch, length, 4, generator=g, dtype=torch.float64),
        torch.randn(batch, length, 4, generator=g, dtype=torch.float64),
    ]


def word_for_word(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    state = torch.zeros(len(u), u.shape[2], b.shape[2], u.shape[3], dtype=u.dtype)
    found = []
    for t in range(u.shape[1]):
        drive = delta[:, t, :, None, None] * b[:, t, None, :, None] * u[:, t, :, None, :]
        state = torch.exp(delta[:, t] * a)[..., None, None] * state + drive
        found.append(torch.einsum("bn,bhnp->bhp", c[:, t], state))
    return torch.stack(found, 1)


@settings(max_examples=12, deadline=None)
@given(batch=st.integers(1, 3), length=st.sampled_from([1, 2, 63, 64, 65, 150]))
def test_it_is_the_recurrence(batch: int, length: int) -> None:
    given_ = inputs(batch, length)
    torch.testing.assert_close(dual_scan(*given_), word_for_word(*given_), atol=1e-11, rtol=1e-11)


def test_gradients_are_those_of_finite_differences() -> None:
    given_ = [x.requires_grad_() for x in inputs(1, 70)]
    assert torch.autograd.gradcheck(dual_scan, given_, fast_mode=True)


def test_pieces_are_the_whole() -> None:
    u, delta, a, b, c = inputs(2, 150)
    state, found = None, []
    for first, stop in ((0, 1), (1, 70), (70, 150)):
        part = [x[:, first:stop] for x in (u, delta, b, c)]
        y, state = dual_pieces(part[0], part[1], a, part[2], part[3], state)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, 1), dual_scan(u, delta, a, b, c))


def test_large_decays_and_half_precision_stay_finite() -> None:
    u, delta, a, b, c = (x.half().requires_grad_() for x in inputs(1, 100))
    y = dual_scan(u * 300, delta * 1000, a, b, c)
    assert y.dtype is torch.float32
    y.sum().backward()
    for x in (u, delta, a, b, c):
        assert x.grad is not None
        assert not x.grad.isnan().any()


def test_no_tokens_are_refused() -> None:
    u, delta, a, b, c = inputs(1, 4)
    with pytest.raises(ValueError, match="at least one token"):
        dual_scan(u[:, :0], delta[:, :0], a, b[:, :0], c[:, :0])
