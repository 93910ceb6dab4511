"""A loss that is not a number stops the run, and says where."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sonoformer.errors import UserError
from sonoformer.training.finite import INTERVAL, Guard

NAN = torch.tensor(float("nan"))


def test_at_once_it_names_step_and_rows() -> None:
    guard = Guard(False, str)
    guard.begin(micro=7, step=3, rows=torch.tensor([5, 11]))
    guard.check(torch.tensor(1.0))
    for bad in (NAN, torch.tensor(float("inf"))):
        with pytest.raises(UserError, match=r"step 4;.*\(data rows 5 5, 11 11\)"):
            guard.check(bad)


def test_deferred_it_still_names_the_first_bad_batch() -> None:
    guard = Guard(True, str)

    def train() -> None:
        for micro in range(2 * INTERVAL + 1):
            guard.begin(micro, micro, torch.tensor([micro]))
            guard.check(NAN if micro in (10, 20) else torch.tensor(0.0))

    with pytest.raises(UserError, match=r"step 11;.*\(data rows 10 10\)"):
        train()


def test_deferred_it_is_read_before_a_checkpoint() -> None:
    guard, module = Guard(True, str), nn.Linear(2, 2)
    guard.begin(0, 0, torch.tensor([1]))
    guard.check(torch.tensor(1.0))
    guard.verify_weights(module, 1)
    guard.check(NAN)
    with pytest.raises(UserError, match="step 1"):
        guard.verify_weights(module, 1)


def test_weights_that_are_not_finite_are_not_saved() -> None:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight[0, 0] = float("inf")
    with pytest.raises(UserError, match="not finite after step 9"):
        Guard(False, str).verify_weights(module, 9)
