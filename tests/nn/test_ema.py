"""The moving average of a module's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sonoformer.nn.ema import Ema


def module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def shift(net: nn.Module, by: float) -> None:
    with torch.no_grad():
        for value in net.parameters():
            value += by


def test_the_average_is_the_geometric_sum_of_the_past() -> None:
    net = module()
    ema, expected = Ema(net, 0.9), net[0].weight.detach().double()
    for step in range(20):
        shift(net, 0.1 * step)
        ema.update(net)
        expected = 0.9 * expected + 0.1 * net[0].weight.detach().double()
    torch.testing.assert_close(ema.state_dict()["0.weight"].double(), expected, atol=1e-5, rtol=0)


def test_a_decay_near_one_still_moves_for_half_precision_weights() -> None:
    net = nn.Linear(2, 2).to(torch.bfloat16)
    with torch.no_grad():
        net.weight.fill_(1)
    ema = Ema(net, 0.9999)
    with torch.no_grad():
        net.weight.fill_(2)
    for _ in range(100):
        ema.update(net)
    found = ema.state_dict()["weight"]
    assert found.dtype == torch.float32
    assert found.mean().item() == pytest.approx(1 + 1 - 0.9999**100, rel=1e-3)


def test_buffers_follow_and_counters_stay() -> None:
    net = module()
    ema = Ema(net, 0.5)
    net(torch.randn(8, 3) + 10)
    own = net[1].running_mean.clone()
    ema.update(net)
    torch.testing.assert_close(ema.state_dict()["1.running_mean"], own / 2)
    assert "1.num_batches_tracked" not in ema.state_dict()


def test_swapping_gives_the_weights_back_even_after_an_error() -> None:
    net = module()
    ema = Ema(net, 0.9)
    shift(net, 1.0)
    own = {name: value.clone() for name, value in net.state_dict().items()}

    def fail() -> None:
        with ema.swapped(net):
            torch.testing.assert_close(net[0].weight, own["0.weight"] - 1)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    for name, value in net.state_dict().items():
        assert torch.equal(value, own[name])


def test_the_average_does_not_share_memory_with_the_module() -> None:
    net = module()
    ema = Ema(net, 0.9)
    before = ema.state_dict()["0.weight"].clone()
    shift(net, 3.0)
    assert torch.equal(ema.state_dict()["0.weight"], before)


def test_a_saved_average_goes_on_and_another_modules_is_refused() -> None:
    net = module()
    ema, again = Ema(net, 0.9), Ema(net, 0.9)
    shift(net, 1.0)
    ema.update(net)
    again.load_state_dict({name: value.clone() for name, value in ema.state_dict().items()})
    for name, value in ema.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(ValueError, match="another module"):
        again.load_state_dict(Ema(nn.Linear(3, 4), 0.9).state_dict())
    one = {name: value[:1] for name, value in ema.state_dict().items()}
    with pytest.raises(ValueError, match="another module"):
        again.load_state_dict(one)
