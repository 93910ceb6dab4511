"""Train a learner: the one function that pretraining, fine-tuning and probing all call."""

from __future__ import annotations

import copy
import logging
import signal
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.loader import StepLoader
from sonoformer.data.order import Order
from sonoformer.errors import UserError
from sonoformer.run import Run
from sonoformer.training.checkpoints import AtomicIO, read_checkpoint, remove_leftovers
from sonoformer.training.config import TrainConfig
from sonoformer.training.cycle import Cycle
from sonoformer.training.devices import resolve_device, resolve_precision
from sonoformer.training.finite import Guard
from sonoformer.training.interrupts import Interrupted
from sonoformer.training.journal import Row
from sonoformer.training.learner import Learner
from sonoformer.training.module import Module
from sonoformer.training.pace import Watched
from sonoformer.training.plan import Plan
from sonoformer.training.processes import from_leader, launched, leads, parted, rank
from sonoformer.training.report import Report
from sonoformer.training.sharding import whole_state
from sonoformer.training.strategies import make_strategy, places
from sonoformer.training.validation import evaluate


@dataclass(frozen=True)
class TrainData:
    """What is trained on: the clips, and the order in which they come."""

    dataset: ClipDataset
    order: Order


@dataclass
class FitResult:
    """How a training run ended.

    Attributes:
        steps: optimiser steps done, over all processes that worked on the run.
        best: step and value of the best validation, when `TrainConfig.best` names a metric.
        final: validation metrics of the weights that were given back.
        history: the rows of `metrics.csv`.
        seconds: time spent, validation and saving included, over all those processes.
        wait_share: part of the training time spent waiting for the loader.

    A run that was stopped from outside has no result: `fit` raises `Interrupted`.
    """

    steps: int
    best: dict[str, float] | None
    final: dict[str, float]
    history: list[Row] = field(repr=False)
    seconds: float
    wait_share: float


def fit(
    learner: Learner,
    train: TrainData,
    validation: Iterable[Batch] | None,
    config: TrainConfig,
    run: Run,
    *,
    seed: int,
    device: str = "auto",
    resume: bool = False,
    progress: bool | None = None,
) -> FitResult:
    """Train `learner` in place, leaving curves and checkpoints in `run.folder`.

    The weights given back are, by `config`: those of the best validation (`best`), the mean over
    epochs (`average_from`), the moving average (`ema`), or else those after the last step.

    On a CPU a run that is resumed after any kind of stop ends with the same bits (weights,
    optimiser, curves) as one that was never stopped.

    Processes that torchrun started share each batch and each validation (see `processes`); as many
    as divide the batch may do so, and another number may resume. Dropout apart, they learn what a
    single process learns, up to rounding.

    Args:
        learner: the model and its loss.
        train: clips and order.
        validation: batches to validate on, iterable again and again; never a test fold.
        config: the training options.
        run: the folder.
        seed: of dropout; data order and noise have theirs in `train`.
        device: `auto`, or a torch device.
        resume: continue from `run.checkpoints / "last.ckpt"`, if one was written.
        progress: show a bar; on a terminal only by default.

    Raises:
        UserError: options that do not fit each other; a loss that is not finite; a full disk;
            another process that has ended.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
    """
    _check_processes(train.order, config)
    where = resolve_device(device)
    precision = resolve_precision(config.precision, where)
    plan = Plan.of(config, train.order.steps_per_epoch)
    _check(config, plan, validation)
    run.log(f"training on {where.type} in {precision}", show=False)
    step = from_leader(_position(run, plan, seed, resume) if leads() else 0)
    report = Report(run, plan, step, train.dataset.source.sample_rate, config.tensorboard, progress)
    cycle = Cycle(plan, config, run, report, _shared(validation, config), seed, precision)

    def loader(rank: int, world: int) -> Watched:
        batches = plan.total * plan.accumulate
        steps = StepLoader(
            train.dataset,
            train.order,
            start=step * plan.accumulate,
            stop=batches,
            workers=config.workers,
            rank=rank,
            world_size=world,
        )
        return Watched(steps, batches, report.pace, run.problem)

    guard = Guard(where.type != "cpu", train.dataset.source.name)
    # Weights are shared out in a copy, so that the learner that is given back is whole.
    trained = copy.deepcopy(learner) if config.strategy == "fsdp" else learner
    module = Module(trained, config, loader, guard, cycle.window)
    cycle.stop.install()
    try:
        frugal = checkpointed_encoders(trained, config.checkpointing)
        with _quiet(), frugal, compiled_encoders(trained, config.compile):
            _train(module, cycle, plan, where, precision, run, resume=step > 0)
            if trained is not learner:
                learner.load_state_dict(whole_state(trained))
                module.learner = learner
            final = _give_back(module, cycle, where)
    finally:
        cycle.stop.restore()
        report.close()
    history = report.metrics.rows
    return FitResult(cycle.step, cycle.best, final, history, report.seconds(), report.wait_share())


def _train(
    module: Module,
    cycle: Cycle,
    plan: Plan,
    device: torch.device,
    precision: str,
    run: Run,
    resume: bool,
) -> None:
    trainer = pl.Trainer(
        accelerator=device.type,
        strategy=make_strategy(module.learner, module.config.strategy),
        **places(device),
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_steps=plan.total,
        max_epochs=-1,
        accumulate_grad_batches=plan.accumulate,
        callbacks=[cycle],
        plugins=[AtomicIO()],
        default_root_dir=run.folder,
        # Validation, checkpoints, curves and progress are `Cycle`'s, which a restart cannot shift.
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module.train()
    path = str(cycle.last_path) if resume else None
    try:
        trainer.fit(module, ckpt_path=path, weights_only=True if resume else None)
    except SIGTERMException:
        pass  # the signal came before the first step
    except Exception as error:
        if parted(error) and not cycle.stop:
            raise UserError(
                f"another process of the run has ended at step {cycle.step + 1}; continue from "
                f"the last checkpoint in {cycle.checkpoints.parent} with --resume"
            ) from error
        if "DataLoader worker" in str(error) and not cycle.stop:
            raise UserError(
                f"a process that loads data has died at step {cycle.step + 1}, killed perhaps for "
                "want of memory; continue from the last checkpoint with --resume, and fewer "
                "--workers"
            ) from error
        # A signal to the whole process group may end the loader's helpers, or another process,
        # before this one, which then fails in one of many ways.
        if not cycle.stop or isinstance(error, UserError):
            raise
        run.log(f"while stopping: {type(error).__name__}: {error}", show=False)
        raise Interrupted(
            f"stopped by {cycle.stop.name}; continue from the last checkpoint with --resume",
            cycle.stop.number or signal.SIGTERM,
        ) from error
    if cycle.step < plan.total:
        raise Interrupted(
            f"stopped by {cycle.stop.name} after step {cycle.step} of {plan.total}; everything is "
            f"saved in {run.folder}: continue with --resume",
            cycle.stop.number or signal.SIGTERM,
        )


def _give_back(module: Module, cycle: Cycle, device: torch.device) -> dict[str, float]:
    """Leave the chosen weights in the learner; their validation metrics."""
    learner, chosen = module.learner.to(device), cycle.plan.total
    if cycle.average is not None:
        cycle.average.install()
        if cycle.validation is None:
            return {}
        return evaluate(learner, cycle.validation, device, precision=cycle.precision)
    if cycle.config.best is not None:
        learner.load_state_dict(read_checkpoint(cycle.best_path)["learner"])
        chosen = int(cycle.best["step"]) if cycle.best else chosen
    elif cycle.ema is not None:
        cycle.ema.install(learner)
    return cycle.report.validation_at(chosen)


def _shared(validation: Iterable[Batch] | None, config: TrainConfig) -> Iterable[Batch] | None:
    """This process's part of the validation; where it has no parts, each process does it all.

    So does each holder of a share of the weights, for they must compute at the same time.
    """
    share = getattr(validation, "share", None)
    if share is None or launched() == 1 or config.strategy == "fsdp":
        return validation
    part: Iterable[Batch] = share(rank(), launched())
    return part


def _check_processes(order: Order, config: TrainConfig) -> None:
    if config.strategy == "fsdp" and launched() == 1:
        raise UserError(
            "strategy: fsdp shares a model out among processes, and this is one; start several by "
            "torchrun, or leave it away"
        )
    if order.batch_size % launched():
        raise UserError(
            f"batch_size: {order.batch_size} clips cannot be shared evenly by {launched()} "
            "processes; choose a multiple of their number"
        )


def _check(config: TrainConfig, plan: Plan, validation: Iterable[Batch] | None) -> None:
    if validation is None:
        for name, value in (("best", config.best), ("monitor", config.schedule.monitor)):
            if value is not None:
                raise UserError(f"{name}: needs validation data, and there is none.")
    if config.average_from is not None and config.average_from > plan.epochs_done(plan.total):
        raise UserError(
            f"average_from: the run ends after epoch {plan.epochs(plan.total):.3g}, before epoch "
            f"{config.average_from}, so nothing would be averaged."
        )


def _position(run: Run, plan: Plan, seed: int, resume: bool) -> int:
    """The step to start from."""
    remove_leftovers(run.checkpoints)
    path = run.checkpoints / "last.ckpt"
    if not path.exists():
        if resume:
            run.log("no checkpoint was written yet: starting from the first step")
        return 0
    if not resume:
        raise UserError(f"{path}: already there; continue with --resume or choose another --out")
    checkpoint = read_checkpoint(path)
    state = _own_state(checkpoint)
    if state is None:
        raise UserError(f"{path}: is not a checkpoint of this program")
    now = {
        "seed": seed,
        "batches_per_epoch": plan.batches_per_epoch,
        "accumulate": plan.accumulate,
    }
    changed = [f"{n} was {state[n]}, is {v}" for n, v in now.items() if state[n] != v]
    if changed:
        raise UserError(
            f"{path}: comes from other data or options ({', '.join(changed)}); resume with the "
            "same ones, or choose another --out"
        )
    if state["step"] > plan.total:
        raise UserError(
            f"steps: the run already did {state['step']}, more than the {plan.total} that are "
            "asked for now; ask for more, or start a new run in another --out"
        )
    run.log(f"continuing after step {state['step']} of {plan.total}")
    return int(state["step"])


def _own_state(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    for name, state in checkpoint.get("callbacks", {}).items():
        if name.split("{")[0] == Cycle.__qualname__:
            return dict(state)
    return None


@contextmanager
def compiled_encoders(learner: Learner, wanted: bool) -> Iterator[None]:
    """The encoders' transformers compiled, where it is asked for."""
    name = "encode" if hasattr(learner.encoder, "encode") else "forward"
    encoders = learner.encoders() if wanted else []
    for encoder in encoders:
        setattr(encoder, name, torch.compile(getattr(encoder, name)))
    try:
        yield
    finally:
        for encoder in encoders:
            delattr(encoder, name)


@contextmanager
def checkpointed_encoders(learner: Learner, wanted: bool) -> Iterator[None]:
    """The encoders' blocks computed again in the backward pass, where it is asked for.

    Raises:
        UserError: an encoder that cannot do that.
    """
    encoders = learner.encoders() if wanted else []
    for encoder in encoders:
        if not hasattr(encoder, "checkpointing"):
            raise UserError(
                f"checkpointing: {type(encoder).__name__} does not know how; leave it away"
            )
        encoder.checkpointing = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for encoder in encoders:
            encoder.checkpointing = False  # type: ignore[assignment]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notices: the run says what the user needs to know."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            # Of two tensors that differ in the stride of an axis of length 1.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
