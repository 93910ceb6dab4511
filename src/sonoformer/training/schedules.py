"""The learning rate as a factor on its peak: a function of the step, so there is little to store.

Only the plateau schedule remembers something: what validation has said so far.
"""

from __future__ import annotations

import math
from typing import Any

from sonoformer.errors import UserError, nearest
from sonoformer.training.config import OptimiserConfig, ScheduleConfig
from sonoformer.training.plan import Plan

# A gain on the watched metric counts from this relative size on, as in torch's own plateau rule.
_THRESHOLD = 1e-4
_STAIR = 50  # steps a stair of the reference warm-up lasts


class Schedule:
    """The factor on the peak learning rate.

    Args:
        config: the options.
        plan: the steps of the run.
    """

    def __init__(self, config: ScheduleConfig, plan: Plan) -> None:
        self.config, self.plan = config, plan
        self._best: float | None = None
        self._bad = 0
        self._lowered = 1.0

    def factor(self, step: int) -> float:
        """The factor used by optimiser step `step`, from 0."""
        warm = self.config.warmup_steps
        if step < warm and self.config.warmup == "linear":
            return (step + 1) / warm * self._lowered
        if step < warm:
            # SSAST's training loop sets the rate to step / 1000 of its peak every 50 steps.
            return step // _STAIR * _STAIR / warm * self._lowered
        return self._after_warmup(step)

    def _after_warmup(self, step: int) -> float:
        config = self.config
        if config.name == "cosine":
            span = max(1, self.plan.total - config.warmup_steps)
            along = min(1.0, (step - config.warmup_steps) / span)
            return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * along))
        if config.name == "step":
            passed = sum(self.plan.epochs_done(step) >= m for m in config.milestones)
            return float(config.factor**passed)
        if config.name == "exponential":
            passed = max(0, self.plan.epochs_done(step) - config.start_epoch + 1)
            return float(config.factor**passed)
        return self._lowered

    def observe(self, values: dict[str, float]) -> None:
        """Tell the schedule what a validation found; only `plateau` listens.

        The rate falls on validation number `patience + 1` in a row without a gain. With SSAST's
        patience of 2 that is the third, though its paper says the second.

        Raises:
            UserError: the watched metric is not among `values`, or is NaN.
        """
        if self.config.name != "plateau":
            return
        value = watched(values, self.config.monitor or "", "monitor")
        if better(value, self._best, self.config.mode):
            self._best, self._bad = value, 0
            return
        self._bad += 1
        if self._bad > self.config.patience:
            self._lowered = max(self._lowered * self.config.factor, self.config.floor)
            self._bad = 0

    def state_dict(self) -> dict[str, Any]:
        """What validation has taught the schedule."""
        return {"best": self._best, "bad": self._bad, "lowered": self._lowered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` left off."""
        self._best, self._bad, self._lowered = state["best"], state["bad"], state["lowered"]


def decay_factor(config: OptimiserConfig, step: int, total: int) -> float:
    """The weight decay of optimiser step `step`, from 0, of `total`, as a factor on the first.

    With an end given: from there half a cosine, as in DINO (Caron et al. 2021, section 3).
    """
    if config.weight_decay_end is None:
        return 1.0
    end = config.weight_decay_end / config.weight_decay
    along = min(1.0, step / max(1, total - 1))
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * along))


def better(value: float, best: float | None, mode: str) -> bool:
    """Whether `value` is a gain over `best` by the plateau rule."""
    if best is None:
        return True
    margin = abs(best) * _THRESHOLD
    return value > best + margin if mode == "max" else value < best - margin


def watched(values: dict[str, float], name: str, option: str) -> float:
    """The metric called `name`.

    Raises:
        UserError: validation does not give it (the nearest name is suggested), or gives NaN, as
            for a class that the validation data do not hold.
    """
    if name not in values:
        known = ", ".join(sorted(values)) or "none, for there is no validation data"
        raise UserError(
            f"{option}: validation gives no metric {name!r} (it gives {known})."
            + nearest(name, values)
        )
    if math.isnan(values[name]):
        raise UserError(
            f"{option}: the metric {name!r} is not a number on the validation data; choose another"
        )
    return values[name]
