"""What happens between two steps: randomness, learning rate, averages, validation, checkpoints.

A checkpoint is only ever written when an optimiser step is complete, and everything that follows
from a step is decided by its number. So a run that was stopped anywhere, and takes up its last
checkpoint, repeats exactly what an uninterrupted run does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch

from sonoformer.data.batch import Batch
from sonoformer.data.keys import key
from sonoformer.nn.ema import Ema
from sonoformer.run import Run
from sonoformer.training.averaging import EpochAverage
from sonoformer.training.checkpoints import write_checkpoint
from sonoformer.training.config import TrainConfig
from sonoformer.training.interrupts import StopRequest
from sonoformer.training.journal import Row, Window
from sonoformer.training.module import Module
from sonoformer.training.plan import Plan
from sonoformer.training.processes import anywhere, from_leader, gathered, leads
from sonoformer.training.report import Report
from sonoformer.training.schedules import Schedule, decay_factor, watched
from sonoformer.training.sharding import whole_state
from sonoformer.training.validation import Stopped, evaluate


class Cycle(pl.Callback):
    """The life of a run around Lightning's steps.

    Args:
        plan: the steps.
        config: the training options.
        run: the folder.
        report: curves, progress and log lines.
        validation: batches to validate on, or None.
        seed: of dropout.
        precision: in which validation computes.
    """

    def __init__(
        self,
        plan: Plan,
        config: TrainConfig,
        run: Run,
        report: Report,
        validation: Iterable[Batch] | None,
        seed: int,
        precision: Literal["fp32", "bf16"],
    ) -> None:
        self.plan, self.config, self.run, self.report = plan, config, run, report
        self.validation, self.seed, self.precision = validation, seed, precision
        self.schedule = Schedule(config.schedule, plan)
        self.stop, self.window = StopRequest(), Window()
        self.step = 0
        self.best: dict[str, float] | None = None
        self.ema: Ema | None = None
        self.average: EpochAverage | None = None
        # Of several processes only the leader writes here; the others read what it wrote.
        self.checkpoints = Path(from_leader(str(run.checkpoints.absolute())))
        self._told = 0
        self._validated = 0
        self._restored: dict[str, Any] | None = None
        self._fitted: Module | None = None
        self._saved_at = time.monotonic()

    # Lightning's hooks, in the order in which they are called.

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Averages are made once the weights are on their device."""
        learner = _module(pl_module).learner
        if self.config.ema is not None:
            self.ema = Ema(learner, self.config.ema)
        if self.config.average_from is not None:
            self.average = EpochAverage(learner, self.config.average_from, self.config.average_to)
        self._fitted = _module(pl_module)
        if self._restored is not None:
            self._take_up(self._fitted, self._restored)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish a step whose validation was interrupted."""
        self.stop.install()  # again, because Lightning has put its own handler over ours
        self._saved_at = time.monotonic()
        if self.step and self.plan.validates(self.step) and self._validated != self.step:
            self._finish_step(trainer, _module(pl_module))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed dropout, and set the learning rate."""
        module = _module(pl_module)
        module.guard.begin(batch_idx, self.step, batch.index)
        torch.manual_seed(key(self.seed, "dropout", batch_idx, trainer.global_rank))
        if batch_idx % self.plan.accumulate:
            return
        module.learner.start_step(self.step, self.plan.total)
        factor = self.schedule.factor(self.step)
        decay = decay_factor(self.config.optimiser, self.step, self.plan.total)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor
            group["weight_decay"] = group["initial_decay"] * decay

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the step, and do what follows from it."""
        if (batch_idx + 1) % self.plan.accumulate:
            return
        _module(pl_module).learner.end_step(self.step, self.plan.total)
        self.step += 1
        if self.ema is not None:
            self.ema.update(_module(pl_module).learner)
        if self.average is not None and self.plan.ends_epoch(self.step):
            self.average.end_of_epoch(self.plan.epochs_done(self.step))
        self._finish_step(trainer, _module(pl_module))

    # A checkpoint's own part; Lightning adds weights, optimiser and its counters.

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs besides weights and optimiser."""
        return {
            "format": 1,
            "step": self.step,
            "seed": self.seed,
            "batches_per_epoch": self.plan.batches_per_epoch,
            "accumulate": self.plan.accumulate,
            "validated": self._validated,
            "best": self.best,
            "schedule": self.schedule.state_dict(),
            "window": self.window.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "average": self.average.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the weights are on their device; where they are shared out, they are now."""
        if self._fitted is None:
            self._restored = state_dict
        else:
            self._take_up(self._fitted, state_dict)

    def _take_up(self, module: Module, state: dict[str, Any]) -> None:
        self.step, self._validated, self.best = state["step"], state["validated"], state["best"]
        self.schedule.load_state_dict(state["schedule"])
        self.window.load_state_dict(state["window"], module.device)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._restored = None

    # The end of a step.

    def _finish_step(self, trainer: pl.Trainer, module: Module) -> None:
        validates = self.plan.validates(self.step)
        # At the last step a request to stop is met by ending: there is nothing left to resume.
        # All processes must decide alike, or one waits for ever for what the others do not do.
        asked, due = anywhere(bool(self.stop), self._checkpoint_due())
        stopping = self.step < self.plan.total and asked
        if validates and not stopping:
            with self.report.pace.paused():
                stopping = self._validate(trainer, module)
        elif not validates and self.step % self.config.log_every == 0:
            self.report.add(self._row())
        if stopping or validates or due:
            with self.report.pace.paused():
                self.save(trainer, module)
        trainer.should_stop = trainer.should_stop or stopping
        self.report.advance(self.step)

    def _validate(self, trainer: pl.Trainer, module: Module) -> bool:
        """Validate, and learn from it; true when it was interrupted, as if it had not begun."""
        values: dict[str, float] = {}
        # One process alone must not leave: the others would wait for its sums.
        may_stop = self.step < self.plan.total and trainer.world_size == 1
        if self.validation is not None:
            try:
                with self.averaged(module):
                    values = evaluate(
                        module.learner,
                        self.validation,
                        module.device,
                        precision=self.precision,
                        stop=lambda: bool(self.stop) and may_stop,
                        problem=self.run.problem,
                    )
            except Stopped:
                return True
        self.report.add(self._row(), values)
        self.schedule.observe(values)
        if self.config.best is not None:
            self._keep_best(module, watched(values, self.config.best, "best"))
        self._validated = self.step
        return False

    def averaged(self, module: Module) -> AbstractContextManager[Any]:
        """The weights that are validated: those of the moving average, where there is one."""
        return nullcontext() if self.ema is None else self.ema.swapped(module.learner)

    def _row(self) -> Row:
        rate = self.config.optimiser.peak * self.schedule.factor(self.step - 1)
        means = {f"train/{name}": value for name, value in self.window.close().items()}
        return {"step": self.step, "epoch": self.plan.epochs(self.step), "lr": rate, **means}

    def _keep_best(self, module: Module, value: float) -> None:
        known = None if self.best is None else self.best["value"]
        sign = 1 if self.config.best_mode == "max" else -1
        if known is not None and sign * value <= sign * known:
            return
        self.best = {"step": self.step, "value": value}
        with self.averaged(module), self.stop.saving():
            weights = {n: t.cpu() for n, t in whole_state(module.learner).items()}
            if leads():
                write_checkpoint(self.best_path, {"learner": weights, **self.best})

    @property
    def best_path(self) -> Path:
        """The weights of the best validation."""
        return self.checkpoints / "best.ckpt"

    @property
    def last_path(self) -> Path:
        """The checkpoint from which the run is resumed."""
        return self.checkpoints / "last.ckpt"

    def save(self, trainer: pl.Trainer, module: Module) -> None:
        """Write `last.ckpt`; the leader lists what the other processes could not read.

        Raises:
            UserError: the weights are not finite, or the disk is full; the old file stays.
        """
        module.guard.verify_weights(module.learner, self.step)
        with self.stop.saving():
            trainer.save_checkpoint(self.last_path, weights_only=False)
        fresh = self.run.problems[self._told :]
        for path, reason in [problem for part in gathered(fresh)[1:] for problem in part]:
            self.run.problem(path, reason)
        self._told = len(self.run.problems)
        self._saved_at = time.monotonic()

    def _checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes


def _module(module: pl.LightningModule) -> Module:
    assert isinstance(module, Module)
    return module
