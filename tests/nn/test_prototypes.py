"""Prototype heads, temperatures, and centres that no number of processes changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch import multiprocessing as mp

from sonoformer.errors import UserError
from sonoformer.nn.prototypes import (
    Centre,
    HeadConfig,
    PrototypeHead,
    Prototypes,
    TemperatureConfig,
)

SMALL = HeadConfig(hidden=32, bottleneck=8, clip=20, patch=12)


def test_logits_are_cosines() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(16, SMALL)
    clip, patches = torch.randn(3, 16), torch.randn(3, 5, 16)
    directions = head.directions(patches)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(3, 5))
    logits = head(clip, patches)
    assert logits.clip.shape == (3, 20)
    assert logits.patch.shape == (3, 5, 12)
    rows = head.patch.weight / head.patch.weight.norm(dim=1, keepdim=True)
    assert torch.allclose(rows.norm(dim=1), torch.ones(12))
    assert torch.allclose(logits.patch, directions @ rows.T, atol=1e-6)
    assert logits.patch.abs().max() <= 1 + 1e-6
    # The length of a weight plays no part, and gets no gradient.
    with torch.no_grad():
        head.patch.weight *= torch.rand(12, 1) + 0.5
    assert torch.allclose(head(clip, patches).patch, logits.patch, atol=1e-6)
    head(clip, patches).patch.square().sum().backward()
    assert (head.patch.weight.grad * head.patch.weight).sum(1).abs().max() < 1e-4
    assert head.patch.weight.grad.abs().max() > 1e-2


def test_logits_are_computed_in_fp32() -> None:
    torch.manual_seed(0)
    layer, x = Prototypes(8, 50), torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
    plain = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer(x)
        head = PrototypeHead(16, SMALL)(torch.randn(2, 16), torch.randn(2, 3, 16))
    assert torch.equal(inside, plain)
    assert head.clip.dtype == head.patch.dtype == torch.float32


def test_tokens_that_are_not_there_give_finite_gradients() -> None:
    head = PrototypeHead(16, SMALL)
    x = torch.zeros(1, 4, 16, requires_grad=True)
    logits = head(torch.randn(1, 16), x).patch
    (logits * 0).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_teachers_temperature_rises_in_a_line_and_stays() -> None:
    config = TemperatureConfig()
    assert config.at(0, 1000) == 0.04
    assert config.at(150, 1000) == pytest.approx(0.055)
    assert config.at(300, 1000) == config.at(999, 1000) == pytest.approx(0.07)
    assert TemperatureConfig(warmup=0.0).at(0, 1000) == pytest.approx(0.07)


def test_a_centre_is_the_mean_over_what_is_kept() -> None:
    centre = Centre(3, decay=0.9)
    logits = torch.arange(24.0).view(2, 4, 3)
    keep = torch.tensor([[True, True, False, True], [False, False, True, False]])
    expected = torch.zeros(3)
    for _ in range(3):
        centre.observe(logits, keep)
        centre.update()
        expected = 0.9 * expected + 0.1 * logits[keep].mean(0)
        assert torch.allclose(centre.value, expected)
        assert not centre.total.any()
    # The batches of one step count as one.
    other = Centre(3, decay=0.9)
    for part in range(2):
        other.observe(logits[part], keep[part])
    other.update()
    assert torch.allclose(other.value, 0.1 * logits[keep].mean(0))
    assert list(centre.state_dict()) == ["value"]


LOGITS = torch.arange(40.0).view(2, 5, 4).sin()
KEEP = torch.tensor([[True] * 5, [True, False, False, True, False]])


def _centre_of(rows: slice) -> Tensor:
    centre = Centre(4, decay=0.9)
    for scale in (1.0, 2.0):
        centre.observe(scale * LOGITS[rows], KEEP[rows])
        centre.update()
    return centre.value


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # a forked process must not wait for threads it does not have
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(_centre_of(slice(rank, rank + 1)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_centre_of_one(tmp_path: Path) -> None:
    mp.start_processes(_process, (str(tmp_path),), nprocs=2, start_method="fork")
    one = _centre_of(slice(0, 2))
    for rank in (0, 1):
        assert torch.allclose(torch.load(tmp_path / f"{rank}.pt"), one, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (HeadConfig, {"clip": 1}, "head.clip"),
        (TemperatureConfig, {"student": 0.0}, "temperature.student"),
        (TemperatureConfig, {"warmup": 1.5}, "temperature.warmup"),
    ],
)
def test_bad_options_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind(**options)
