"""Tokens taken out and put back: loops as the reference, gradients; clips counted alike."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.nn.masks import Mask
from sonoformer.nn.subsets import clip_mean, gather, place


def chosen(seed: int, batch: int, tokens: int) -> Mask:
    """Different numbers of tokens a clip; rows that are not kept repeat the first id."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, tokens + 1, (batch,), generator=generator)
    most = int(counts.max())
    order = torch.rand(batch, tokens, generator=generator).argsort(1)[:, :most]
    keep = torch.arange(most) < counts.unsqueeze(1)
    ids = order.masked_fill(~keep, tokens).sort(1).values
    return Mask(torch.where(keep, ids, ids[:, :1].clamp_max(tokens - 1)), keep)


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 4), tokens=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_gather_and_place_are_loops(seed: int, batch: int, tokens: int) -> None:
    mask = chosen(seed, batch, tokens)
    whole = torch.randn(batch, tokens, 3, requires_grad=True)
    fill = torch.randn(3, requires_grad=True)
    rows = gather(whole, mask.ids)
    back = place(rows, mask, tokens, fill)
    expected = []
    for clip in range(batch):
        ids = mask.ids[clip].tolist()
        assert torch.equal(rows[clip], whole[clip, ids])
        kept = set(mask.ids[clip][mask.keep[clip]].tolist())
        expected += [whole[clip, i] if i in kept else fill for i in range(tokens)]
    literal = torch.stack(expected).view(batch, tokens, 3)
    assert torch.equal(back, literal)
    weight = torch.randn_like(back)
    ours = torch.autograd.grad((back * weight).sum(), (whole, fill))
    theirs = torch.autograd.grad((literal * weight).sum(), (whole, fill), materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_place_follows_the_precision_of_what_is_placed() -> None:
    mask = Mask(torch.tensor([[1]]), torch.tensor([[True]]))
    whole = place(torch.ones(1, 1, 2, dtype=torch.bfloat16), mask, 3, torch.zeros(2))
    assert whole.dtype == torch.bfloat16
    assert whole.tolist() == [[[0, 0], [1, 1], [0, 0]]]


def clip_by_clip(values: Tensor, keep: Tensor) -> float:
    means = [v[k].mean() for v, k in zip(values, keep, strict=True) if k.any()]
    return float(torch.stack(means).mean()) if means else 0.0


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 4), tokens=st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_mean_counts_each_clip_alike(seed: int, batch: int, tokens: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, tokens, generator=generator)
    keep = torch.rand(batch, tokens, generator=generator) < 0.5
    found = clip_mean(values, keep).item()
    assert found == pytest.approx(clip_by_clip(values, keep), abs=1e-6)
