"""Learning rates over the steps."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.training.config import ScheduleConfig, TrainConfig
from sonoformer.training.plan import Plan
from sonoformer.training.schedules import Schedule


def _factors(
    config: ScheduleConfig, total: int, accumulate: int = 1, batches: int = 5
) -> list[float]:
    schedule = Schedule(config, Plan(total, accumulate, batches))
    return [schedule.factor(step) for step in range(total)]


def test_constant_is_constant() -> None:
    assert set(_factors(ScheduleConfig(), 20)) == {1.0}


def test_linear_warmup_rises_to_the_peak_and_never_starts_at_zero() -> None:
    factors = _factors(ScheduleConfig(warmup_steps=4), 8)
    assert factors == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_reference_warmup_is_the_staircase_of_ssast() -> None:
    """The authors' loop: at each 50th step up to 1000, rate = step / 1000 of the peak."""
    factors = _factors(ScheduleConfig(warmup_steps=1000, warmup="reference"), 1100)
    rate, expected = 1.0, []
    for step in range(1100):
        if step <= 1000 and step % 50 == 0:
            rate = step / 1000
        expected.append(rate)
    assert factors == pytest.approx(expected)
    assert factors[:50] == [0.0] * 50


def test_cosine_falls_from_the_peak_to_the_floor() -> None:
    config = ScheduleConfig(name="cosine", warmup_steps=10, floor=0.1)
    factors = _factors(config, 110)
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.1 + 0.9 * 0.5)
    assert Schedule(config, Plan(110, 1, 5)).factor(110) == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(factors[10:]))


@given(batches=st.integers(1, 9), accumulate=st.integers(1, 4))
def test_step_and_exponential_are_torchs_multistep_counted_in_epochs(
    batches: int, accumulate: int
) -> None:
    epochs = 8
    plan = Plan.of(TrainConfig(epochs=epochs, accumulate=accumulate), batches)
    step = Schedule(ScheduleConfig(name="step", milestones=(2, 5), factor=0.5), plan)
    fall = Schedule(ScheduleConfig(name="exponential", start_epoch=3, factor=0.85), plan)
    parameter = torch.nn.Parameter(torch.zeros(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ours, milestones, gamma in ((step, (2, 5), 0.5), (fall, range(3, 99), 0.85)):
            optimiser = torch.optim.SGD([parameter], lr=1.0)
            theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(milestones), gamma)
            for at in range(plan.total):
                if at and plan.ends_epoch(at):
                    for _ in range(plan.epochs_done(at) - plan.epochs_done(at - 1)):
                        theirs.step()
                assert ours.factor(at) == pytest.approx(optimiser.param_groups[0]["lr"])


@given(
    values=st.lists(st.sampled_from([0.1, 0.2, 0.20001, 0.3]), max_size=20),
    patience=st.integers(0, 3),
    mode=st.sampled_from(["max", "min"]),
)
def test_plateau_is_torchs(values: list[float], patience: int, mode: str) -> None:
    config = ScheduleConfig(
        name="plateau", monitor="accuracy", mode=mode, patience=patience, factor=0.5
    )
    ours = Schedule(config, Plan(100, 1, 5))
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode, 0.5, patience)
    for value in values:
        ours.observe({"accuracy": value})
        theirs.step(value)
        assert ours.factor(7) == pytest.approx(optimiser.param_groups[0]["lr"])


def test_patience_of_two_lowers_on_the_third_bad_validation() -> None:
    schedule = Schedule(ScheduleConfig(name="plateau", monitor="a"), Plan(9, 1, 1))
    seen = []
    for _ in range(5):
        schedule.observe({"a": 1.0})
        seen.append(schedule.factor(0))
    assert seen == [1, 1, 1, 0.5, 0.5]


def test_plateau_takes_up_where_it_was() -> None:
    config = ScheduleConfig(name="plateau", monitor="a", patience=1)
    whole, first, second = (Schedule(config, Plan(9, 1, 1)) for _ in range(3))
    values = [1.0, 0.5, 0.5, 2.0, 1.0, 1.0, 1.0]
    for value in values:
        whole.observe({"a": value})
    for value in values[:3]:
        first.observe({"a": value})
    second.load_state_dict(first.state_dict())
    for value in values[3:]:
        second.observe({"a": value})
    assert second.factor(0) == whole.factor(0) < 1
    assert second.state_dict() == whole.state_dict()


def test_a_misspelt_metric_names_the_nearest() -> None:
    schedule = Schedule(ScheduleConfig(name="plateau", monitor="acuracy"), Plan(9, 1, 1))
    with pytest.raises(UserError, match=r"monitor: .*'acuracy'.*Did you mean 'accuracy'"):
        schedule.observe({"accuracy": 1.0, "mse": 2.0})
    with pytest.raises(UserError, match="not a number"):
        schedule.observe({"acuracy": float("nan")})


@given(
    batches=st.integers(1, 20),
    accumulate=st.integers(1, 6),
    epochs=st.integers(1, 6),
)
def test_every_epoch_ends_once_and_the_last_with_the_last_step(
    batches: int, accumulate: int, epochs: int
) -> None:
    plan = Plan.of(TrainConfig(epochs=epochs, accumulate=accumulate), batches)
    if batches >= accumulate:
        ends = [s for s in range(1, plan.total + 1) if plan.ends_epoch(s)]
        assert ends == [e * batches // accumulate for e in range(1, epochs + 1)]
        assert ends[-1] == plan.total
    assert plan.total * accumulate <= max(epochs * batches, accumulate)
    assert plan.validates(plan.total)


def test_steps_take_the_place_of_epochs() -> None:
    assert Plan.of(TrainConfig(steps=7, epochs=100, accumulate=3), 5).total == 7
    assert Plan.of(TrainConfig(epochs=0.5), 10).total == 5
