"""Blocks of Mamba: long clips of a batch, mixed one by one on a CPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from sonoformer.nn import mamba
from sonoformer.nn.mamba import BiMamba, MambaBlock


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_clips_one_by_one_are_those_of_the_batch(
    monkeypatch: pytest.MonkeyPatch, padded: bool, turned: bool
) -> None:
    torch.manual_seed(0)
    block = MambaBlock(8, partial(BiMamba, 8, 4, 2, 4, 2)).double().eval()
    x = torch.randn(3, 20, 8).double().requires_grad_()
    valid = torch.arange(20) < torch.tensor([[20], [13], [4]]) if padded else None
    calls = []
    handle = block.mixer.register_forward_hook(lambda *_: calls.append(1))

    def once() -> list[torch.Tensor]:
        out = block.branch(x, valid, turned)
        keep = out if valid is None else out * valid.unsqueeze(-1)
        return [keep.detach(), *torch.autograd.grad(keep.square().sum(), [x, *block.parameters()])]

    whole = once()
    assert len(calls) == 1
    monkeypatch.setattr(mamba, "_LONG", 20)
    single = once()
    assert len(calls) == 1 + 3
    handle.remove()
    for one, other in zip(whole, single, strict=True):
        torch.testing.assert_close(one, other)
