"""Tensors -> module: exact, or every misfit in one sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sonoformer.errors import UserError
from sonoformer.weights import assign


def module() -> nn.Module:
    made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(9.0)
    return made


def test_parameters_and_buffers_are_copied_and_converted() -> None:
    given = {name: torch.ones_like(value) for name, value in module().state_dict().items()}
    given["0.weight"] = given["0.weight"].half()
    filled = module()
    assign(filled, given, "file")
    for value in filled.state_dict().values():
        assert (value == 1).all()
    assert filled[0].weight.dtype == torch.float32
    given["0.weight"].zero_()
    given["0.bias"].zero_()
    assert (filled[0].weight == 1).all()
    assert (filled[0].bias == 1).all()


def test_all_misfits_are_listed_and_nothing_is_changed() -> None:
    given = dict(module().state_dict())
    given["0.weight"] = torch.ones(5, 5)
    given["0.wieght"] = given.pop("1.weight")
    filled = module()
    with pytest.raises(UserError) as caught:
        assign(filled, given, "weights.pth")
    assert str(caught.value) == (
        "weights.pth: the weights do not fit this model; missing: 1.weight; unknown: 0.wieght; "
        "of another shape: 0.weight is (5, 5), should be (2, 3)"
    )
    assert (filled[0].weight == 9).all()


def test_long_lists_are_shortened() -> None:
    given = {**module().state_dict(), **{f"head.{i}": torch.ones(1) for i in range(40)}}
    with pytest.raises(UserError, match=r"head\.11 and 28 more$"):
        assign(module(), given, "file")


def test_known_strangers_are_left_out() -> None:
    given = {name: torch.ones_like(value) for name, value in module().state_dict().items()}
    filled = module()
    assign(filled, {**given, "head.weight": torch.ones(1)}, "file", ignore=("head.",))
    assert (filled[0].weight == 1).all()
    with pytest.raises(UserError, match="unknown: tail"):
        assign(filled, {**given, "tail": torch.ones(1)}, "file", ignore=("head.",))


def test_a_model_without_memory_is_checked_first_and_filled_then() -> None:
    with torch.device("meta"):
        huge, small = nn.Linear(1 << 30, 1 << 30), nn.Linear(3, 2)
    with pytest.raises(UserError, match="of another shape: weight"):
        assign(huge, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, "file")
    assign(small, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, "file")
    assert small(torch.ones(1, 3)).tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_lower_precision_is_converted(dtype: torch.dtype) -> None:
    filled = nn.Linear(3, 2)
    assign(filled, {"weight": torch.full((2, 3), 1.5).to(dtype), "bias": torch.ones(2)}, "file")
    assert filled.weight.dtype == torch.float32
    assert (filled.weight == 1.5).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    given = {"weight": torch.ones(2, 3), "bias": torch.tensor([1.0, bad])}
    with pytest.raises(UserError, match="file: values that are not finite in bias"):
        assign(nn.Linear(3, 2), given, "file")


def test_whole_numbers_are_no_weights() -> None:
    given = {"weight": torch.ones(2, 3, dtype=torch.int8), "bias": torch.ones(2)}
    with pytest.raises(UserError, match="of another kind: weight holds int8"):
        assign(nn.Linear(3, 2), given, "file")
