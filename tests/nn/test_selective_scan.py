"""The selective scan: formulas, gradients, padding, odd input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixture_rules import note
from tests.published_files import FIXTURES
from torch import Tensor

from sonoformer.nn.selective_scan import continued_scan, selective_scan, sequential_scan


def inputs(batch: int, length: int, channels: int, states: int, kind: str = "float32") -> list:
    g = torch.Generator().manual_seed(batch * 1000 + length)
    dtype = getattr(torch, kind)
    return [
        torch.randn(batch, length, channels, generator=g, dtype=dtype),
        torch.rand(batch, length, channels, generator=g, dtype=dtype),
        -torch.rand(channels, states, generator=g, dtype=dtype) * 3 - 0.1,
        torch.randn(batch, length, states, generator=g, dtype=dtype),
        torch.randn(batch, length, states, generator=g, dtype=dtype),
    ]


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 80),
    reverse=st.booleans(),
    form=st.sampled_from(["blocked", "chunked"]),
)
def test_every_form_gives_the_sequential_ones_numbers(
    batch: int, length: int, reverse: bool, form: str
) -> None:
    given_ = inputs(batch, length, 5, 3, "float64")
    there = sequential_scan(*given_, reverse=reverse)[0]
    here = selective_scan(*given_, reverse=reverse, form=form)  # type: ignore[arg-type]
    torch.testing.assert_close(here, there, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("form", ["blocked", "chunked", "sequential"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 35])
def test_gradients_are_those_of_finite_differences(form: str, reverse: bool, length: int) -> None:
    given_ = [x.requires_grad_() for x in inputs(2, length, 2, 2, "float64")]
    assert torch.autograd.gradcheck(
        lambda *x: selective_scan(*x, reverse=reverse, form=form),  # type: ignore[arg-type]
        given_,
        fast_mode=length > 1,
    )


@pytest.mark.parametrize("form", ["blocked", "chunked", "sequential"])
def test_outputs_and_gradients_are_the_references(form: str) -> None:
    there = np.load(FIXTURES / "ssamba" / "scan_b2_d8_l64_n4.npz")
    x = {n: torch.from_numpy(there[n]).requires_grad_() for n in ("u", "delta", *"ABCDz")}
    bias = torch.from_numpy(there["delta_bias"]).requires_grad_()
    u, z, delta = (x[n].transpose(1, 2) for n in ("u", "z", "delta"))
    b, c = x["B"].transpose(1, 2), x["C"].transpose(1, 2)
    y = selective_scan(u, F.softplus(delta + bias), x["A"], b, c, form=form)  # type: ignore[arg-type]
    out = ((y + x["D"] * u) * F.silu(z)).transpose(1, 2)
    out.square().mean().backward()
    difference = np.abs(out.detach().numpy() - there["output"]).max()
    note("scan", float(difference))
    assert difference < 5e-6
    for name, value in {**x, "delta_bias": bias}.items():
        assert value.grad is not None
        gap = np.abs(value.grad.numpy() - there[f"grad_{name}"]).max()
        note("scan gradient", float(gap))
        assert gap < 2e-7, name
    _, last = continued_scan(u, F.softplus(delta + bias), x["A"], b, c, None)
    np.testing.assert_allclose(last.transpose(1, 2).numpy(), there["last_state"], atol=5e-6)


def test_pieces_are_the_whole() -> None:
    u, delta, a, b, c = inputs(2, 50, 4, 3)
    whole = selective_scan(u, delta, a, b, c)
    state, found = None, []
    for first, stop in ((0, 1), (1, 34), (34, 50)):
        part = [x[:, first:stop] for x in (u, delta, b, c)]
        y, state = continued_scan(part[0], part[1], a, part[2], part[3], state)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["blocked", "chunked"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_token_without_a_step_changes_nothing(form: str, reverse: bool) -> None:
    u, delta, a, b, c = inputs(1, 40, 4, 3)
    u[:, 30:] = 1e6
    delta[:, 30:] = 0
    padded = selective_scan(u, delta, a, b, c, reverse=reverse, form=form)[:, :30]  # type: ignore[arg-type]
    short = [x[:, :30] for x in (u, delta, b, c)]
    alone = selective_scan(*short[:2], a, *short[2:], reverse=reverse, form=form)  # type: ignore[arg-type]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


def test_any_strides_give_the_same() -> None:
    given_ = inputs(2, 33, 6, 4)
    odd = [x.mT.contiguous().mT for x in given_]
    assert not any(x.is_contiguous() for x in odd)
    assert torch.equal(selective_scan(*odd), selective_scan(*given_))
    wide = [x.repeat_interleave(2, -1)[..., ::2] for x in given_]
    assert torch.equal(selective_scan(*wide), selective_scan(*given_))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", ["blocked", "chunked", "sequential"])
def test_half_precision_is_computed_in_full(kind: str, form: str) -> None:
    u, delta, a, b, c = (x.to(getattr(torch, kind)) for x in inputs(2, 40, 4, 3))
    u, b = u * 300, b * 300  # their product is beyond the range of fp16
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan(u, delta, a, b, c, form=form)  # type: ignore[arg-type]
    exact = sequential_scan(*(x.double() for x in (u, delta, a, b, c)))[0]
    assert y.dtype is torch.float32
    assert exact.abs().max() > 65504
    torch.testing.assert_close(y.double(), exact, atol=1e-5 * float(exact.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_not_a_number_stays_in_its_clip_and_behind_its_token(reverse: bool) -> None:
    u, delta, a, b, c = inputs(2, 40, 4, 3)
    u[0, 20] = torch.nan
    y = selective_scan(u, delta, a, b, c, reverse=reverse)
    spoiled = slice(None, 21) if reverse else slice(20, None)
    kept = slice(21, None) if reverse else slice(None, 20)
    assert y[0, spoiled].isnan().all()
    assert y[0, kept].isfinite().all()
    assert y[1].isfinite().all()


def test_long_steps_and_large_rates_do_not_overflow() -> None:
    u, delta, a, b, c = inputs(1, 200, 4, 3)
    y = selective_scan(u, delta * 1e4, a * 1e3, b, c, form="chunked")
    assert y.isfinite().all()


def test_wrong_input_is_refused() -> None:
    u, delta, a, b, c = inputs(1, 4, 2, 3)

    def without(x: Tensor) -> Tensor:
        return x[:, :0]

    with pytest.raises(ValueError, match="at least one token"):
        selective_scan(without(u), without(delta), a, without(b), without(c))
    with pytest.raises(ValueError, match="b should be"):
        selective_scan(u, delta, a, b[:, :3], c)
    with pytest.raises(ValueError, match="delta should be"):
        selective_scan(u, delta[..., :1], a, b, c)
    with pytest.raises(ValueError, match="form should be"):
        selective_scan(u, delta, a, b, c, form="quick")  # type: ignore[arg-type]
