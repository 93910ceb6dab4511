"""Uniform weight averaging."""

from __future__ import annotations

import torch
from torch import nn

from sonoformer.training.averaging import EpochAverage


def _set(module: nn.Linear, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)
        module.bias.fill_(-value)


def test_the_mean_of_the_chosen_epochs_only() -> None:
    module = nn.Linear(2, 2)
    average = EpochAverage(module, first=2, last=4)
    for epoch in range(1, 7):
        _set(module, float(epoch**2))
        average.end_of_epoch(epoch)
    with average.swapped():
        assert torch.equal(module.weight, torch.full((2, 2), (4 + 9 + 16) / 3))
    assert torch.equal(module.weight, torch.full((2, 2), 36.0))
    average.install()
    assert torch.equal(module.bias, torch.full((2,), -(4 + 9 + 16) / 3))


def test_a_restored_average_goes_on_bit_for_bit() -> None:
    module = nn.Linear(2, 2)
    whole, first, second = (EpochAverage(module, 1, None) for _ in range(3))
    for epoch in range(1, 6):
        _set(module, 0.1 * epoch)
        whole.end_of_epoch(epoch)
        (first if epoch < 3 else second).end_of_epoch(epoch)
        if epoch == 2:
            second.load_state_dict(first.state_dict())
    a, b = whole.state_dict(), second.state_dict()
    assert a["count"] == b["count"] == 5
    assert all(torch.equal(a["mean"][name], b["mean"][name]) for name in a["mean"])
