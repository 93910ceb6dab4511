"""Optimisers from options and parameter groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sonoformer.errors import UserError
from sonoformer.training.config import OptimiserConfig
from sonoformer.training.optimisers import build_optimiser


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def parameter_groups(self, lr: float) -> list[dict[str, object]]:
        return [
            {"params": list(self.body.parameters()), "weight_decay": 0.0},
            {"params": list(self.head.parameters()), "lr": 10 * lr},
        ]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_equals_torchs_plain_optimiser(name: str) -> None:
    config = OptimiserConfig(name=name, lr=0.01, betas=(0.95, 0.999), weight_decay=0.1)
    ours, theirs = Two(), Two()
    optimiser = build_optimiser(ours, config)
    groups = [
        {"params": theirs.body.parameters(), "weight_decay": 0.0},
        {"params": theirs.head.parameters(), "lr": 0.1},
    ]
    if name == "sgd":
        plain = torch.optim.SGD(groups, lr=0.01, momentum=0.95, weight_decay=0.1, foreach=False)
    else:
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        plain = kind(groups, lr=0.01, betas=(0.95, 0.999), weight_decay=0.1, foreach=False)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(4):
        for model, stepper in ((ours, optimiser), (theirs, plain)):
            stepper.zero_grad()
            model.head(model.body(x)).square().mean().backward()
            stepper.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert not torch.equal(ours.head.weight, Two().head.weight)


def test_groups_keep_their_peak_rate() -> None:
    optimiser = build_optimiser(Two(), OptimiserConfig(lr=0.01))
    assert [g["initial_lr"] for g in optimiser.param_groups] == [0.01, 0.1]


def test_frozen_weights_are_left_out_and_all_frozen_is_an_error() -> None:
    model = Two()
    model.body.requires_grad_(False)
    optimiser = build_optimiser(model, OptimiserConfig())
    assert [len(g["params"]) for g in optimiser.param_groups] == [2]
    model.head.requires_grad_(False)
    with pytest.raises(UserError, match="no weights to train"):
        build_optimiser(model, OptimiserConfig())
