"""Sums and means over processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch import multiprocessing as mp

from sonoformer.nn.reduce import all_mean, all_sum, alone, world_size

VALUES = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])


def _mean_of_squares(weight: Tensor, values: Tensor) -> Tensor:
    return all_mean((weight * values.square()).sum(), torch.tensor(len(values)))


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # a forked process must not wait for threads it does not have
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = VALUES[:2] if rank == 0 else VALUES[2:]
    weight = torch.ones((), requires_grad=True)
    share = _mean_of_squares(weight, own)
    share.backward()
    with alone():
        by_itself = (world_size(), all_sum(own).tolist(), _mean_of_squares(weight, own).item())
    empty = all_mean(own.sum() * 0, torch.tensor(0))
    found = {
        "share": share.item(),
        "gradient": weight.grad.item(),
        "sum": all_sum(own.sum()).item(),
        "own": own.sum().item(),
        "alone": by_itself,
        "empty": empty.item(),
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_one_process_is_the_identity() -> None:
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    assert world_size() == 1
    assert torch.equal(all_sum(x), x.detach())
    assert all_mean(x.sum(), torch.tensor(2)).item() == 2.0
    assert all_mean(x.sum() * 0, torch.tensor(0)).item() == 0.0


def test_shares_of_unequal_size_average_to_the_mean_over_all(tmp_path: Path) -> None:
    mp.start_processes(_process, (str(tmp_path),), nprocs=2, start_method="fork")
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    expected = VALUES.square().mean().item()
    for name in ("share", "gradient"):
        assert sum(part[name] for part in found) / 2 == pytest.approx(expected)
    assert [part["sum"] for part in found] == [31.0, 31.0]
    assert [part["own"] for part in found] == [3.0, 28.0]
    assert found[0]["alone"] == (1, [1.0, 2.0], 2.5)
    assert [part["empty"] for part in found] == [0.0, 0.0]
