"""Pooling: each mode is what it says, and padding has no part in any."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from sonoformer.nn.tokens import Pooling, Tokens


def tokens(times: int = 5, real: int = 5, seed: int = 0) -> Tokens:
    """Two prefix tokens and a grid of 3 rows, of which `real` columns are valid."""
    random = torch.Generator().manual_seed(seed)
    grid = torch.randn(2, 3, 9, 4, generator=random)[:, :, :times]
    grid[:, :, real:] = 1e3
    valid = (torch.arange(times) < real).expand(2, 3, times).reshape(2, -1)
    prefix = torch.randn(2, 2, 4, generator=random)
    return Tokens(torch.cat([prefix, grid.flatten(1, 2)], 1), (3, times), 2, valid, 0.1)


@pytest.mark.parametrize("mode", get_args(Pooling))
def test_padding_has_no_part(mode: Pooling) -> None:
    short, padded = tokens(5, 5), tokens(9, 5)
    torch.testing.assert_close(padded.pool(mode)[:, -4:], short.pool(mode)[:, -4:])
    assert padded.pool(mode).shape == short.pool(mode).shape


def test_modes_are_what_they_say() -> None:
    given = tokens()
    rows = given.x[:, 2:].reshape(2, 3, 5, 4)
    torch.testing.assert_close(given.pool("cls"), given.x[:, :2].mean(1))
    torch.testing.assert_close(given.pool("mean"), rows.mean((1, 2)))
    torch.testing.assert_close(given.pool("bands"), rows.mean(2).flatten(1))
    spread = rows.std(2, correction=0).flatten(1)
    both = torch.cat([rows.mean(2).flatten(1), spread], 1)
    torch.testing.assert_close(given.pool("bands_std"), both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", get_args(Pooling))
def test_one_column_has_a_finite_gradient(mode: Pooling) -> None:
    given = tokens(1, 1)
    given.x.requires_grad_()
    given.pool(mode).sum().backward()
    assert given.x.grad is not None
    assert given.x.grad.isfinite().all()
