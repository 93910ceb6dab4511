"""LoRA, DoRA and IA3 beside the library that most people have them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonoformer.adaptation.linears import AdaptedLinear, Dora, Lora, Scaled
from sonoformer.files import read_json

CASES = read_json(Path(__file__).parents[1] / "fixtures/petl/reference.json")["cases"]
RANK, SCALE = 2, 1.5  # peft's alpha of 3 over the rank


def layer(case: dict[str, Any], name: str) -> nn.Linear:
    weight, bias = (tensor(case["base"][f"{name}.{part}"]) for part in ("weight", "bias"))
    made = nn.Linear(weight.shape[1], weight.shape[0]).double()
    made.load_state_dict({"weight": weight, "bias": bias})
    return made.requires_grad_(False)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def adapted(case: dict[str, Any], name: str) -> tuple[AdaptedLinear, dict[str, nn.Parameter]]:
    """Our layer, and its parameters by peft's names."""
    base = layer(case, name)
    rows = [(0, base.out_features)]
    if case["name"] == "ia3":
        scaled = Scaled(base, rows if name == "outputs" else [])
        return scaled, {f"{name}.ia3_l.default": scaled.factors[0]}
    kind = Dora if case["name"] == "dora" else Lora
    low = kind(base, rows, RANK, SCALE)
    found = {"lora_A.default.weight": low.lora_a, "lora_B.default.weight": low.lora_b[0]}
    if isinstance(low, Dora):
        found["lora_magnitude_vector.default.weight"] = low.lengths[0]
    return low, {f"{name}.{key}": parameter for key, parameter in found.items()}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_outputs_and_gradients_are_those_of_peft(case: dict[str, Any]) -> None:
    first, parameters = adapted(case, "outputs")
    second, more = adapted(case, "inputs")
    parameters |= more
    assert parameters.keys() == case["trained"].keys()
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensor(case["trained"][key][0]).view_as(parameter))
    y = second(first(tensor(case["x"])))
    torch.testing.assert_close(y, tensor(case["y"]), rtol=1e-6, atol=1e-7)
    merged = second.merged()(first.merged()(tensor(case["x"])))
    torch.testing.assert_close(merged, tensor(case["y"]), rtol=1e-6, atol=1e-7)
    (y * tensor(case["weight"])).sum().backward()
    for key, parameter in parameters.items():
        wanted = tensor(case["trained"][key][1]).view_as(parameter)
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-6, atol=1e-7)
