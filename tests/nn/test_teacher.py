"""A teacher: closed form, what it keeps, the law of its momentum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sonoformer.errors import UserError
from sonoformer.nn.teacher import MomentumConfig, Teacher


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_it_is_the_geometric_sum_of_the_past() -> None:
    net = student()
    teacher = Teacher(net)
    past, weights = [net[0].weight.detach().double().clone()], [1.0]
    for step in range(20):
        with torch.no_grad():
            net[0].weight.add_(0.1 * step)
        momentum = 0.8 + 0.005 * step
        teacher.follow(net, momentum)
        past.append(net[0].weight.detach().double().clone())
        weights = [momentum * w for w in weights] + [1 - momentum]
    expected = sum(w * p for w, p in zip(weights, past, strict=True))
    torch.testing.assert_close(teacher.model[0].weight.double(), expected, atol=1e-5, rtol=0)


def test_it_has_no_gradient_its_own_weights_and_no_dropout() -> None:
    net = student().train()
    teacher = Teacher(net)
    whole = nn.ModuleDict({"student": net, "teacher": teacher}).train()
    assert whole["student"].training
    assert not any(part.training for part in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    with torch.no_grad():
        net[0].weight.add_(1.0)
    assert not torch.equal(net[0].weight, teacher.model[0].weight)
    x = torch.randn(5, 3)
    assert torch.equal(teacher.model(x), teacher.model(x))


def test_momentum_1_keeps_and_0_copies_and_buffers_come_along() -> None:
    net = student()
    teacher = Teacher(net)
    before = teacher.model[0].weight.clone()
    net(torch.randn(8, 3))
    with torch.no_grad():
        net[0].weight.mul_(2)
    teacher.follow(net, 1.0)
    assert torch.equal(teacher.model[0].weight, before)
    assert torch.equal(teacher.model[1].running_mean, net[1].running_mean)
    assert teacher.model[1].num_batches_tracked == 1
    teacher.follow(net, 0.0)
    assert torch.equal(teacher.model[0].weight, net[0].weight)


@pytest.mark.parametrize("total", [1, 2, 101])
def test_laws(total: int) -> None:
    cosine, linear = MomentumConfig(0.9, 1.0), MomentumConfig(0.9, 1.0, "linear")
    ramp = MomentumConfig(0.9, 1.0, "linear", ramp=0.25)
    for step in range(total):
        done = step / max(1, total - 1)
        half = (1 - math.cos(math.pi * done)) / 2
        assert cosine.at(step, total) == pytest.approx(0.9 + 0.1 * half)
        assert linear.at(step, total) == pytest.approx(0.9 + 0.1 * done)
        assert ramp.at(step, total) == pytest.approx(0.9 + 0.1 * min(1, 4 * done))


@given(
    total=st.integers(1, 10**6),
    steps=st.integers(1, 10**6),
    start=st.floats(0.99, 1.0),
    end=st.floats(0.99, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_a_run_of_another_length_forgets_as_much(
    total: int, steps: int, start: float, end: float
) -> None:
    law = MomentumConfig(start, end, "linear", steps=steps)
    for step, published in ((0, start), (total - 1, end if total > 1 else start)):
        follow = 1 - law.at(step, total)
        assert follow == pytest.approx(min(0.1, (1 - published) * steps / total), abs=1e-12)


def test_the_published_run_is_as_published() -> None:
    law = MomentumConfig(0.9998, 0.99999, "linear", ramp=0.25, steps=400_000)
    assert law.at(0, 400_000) == pytest.approx(0.9998, abs=1e-12)
    assert law.at(50_000, 400_000) == pytest.approx((0.9998 + 0.99999) / 2, abs=1e-8)
    assert law.at(100_000, 400_000) == pytest.approx(0.99999, abs=1e-8)
    assert law.at(399_999, 400_000) == pytest.approx(0.99999, abs=1e-12)
    assert MomentumConfig(0.5, 0.5, steps=10).at(0, 10) == 0.5  # asked for as such


@pytest.mark.parametrize(
    ("options", "name"),
    [({"start": 1.1}, "start"), ({"end": -0.1}, "end"), ({"ramp": 0.0}, "ramp")],
)
def test_bad_options_are_refused(options: dict, name: str) -> None:
    with pytest.raises(UserError, match=f"momentum.{name}"):
        MomentumConfig(**options)
    with pytest.raises(UserError, match=r"momentum.steps"):
        MomentumConfig(steps=-1)
