"""A small, fixed set of methods and rates, tried within a number of minutes.

A part of the training clips, whole groups of it, is held out to choose on; test clips play no part.
The cost of each candidate is measured by its first steps, and those that cannot be finished are
dropped. The others train for a quarter of the steps; the better half of them train for all steps
(successive halving, Jamieson and Talwalkar 2016, section 2, with one halving); the best of these
is trained on all training clips. What was found out is written after each trial, so that a run that
was stopped goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.manifest import Manifest
from sonoformer.data.shots import few_shots
from sonoformer.data.splits import split
from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import metrics_for, score
from sonoformer.files import read_json, write_json
from sonoformer.run import Run
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.start import Init
from sonoformer.tasks.turns import divide
from sonoformer.training.processes import launched

_HELD = 0.25
_FIRST = 0.25  # of the steps, in the first round
_FEW = 50
# Finds out what a training costs: manifest, init, options -> seconds.
Cost = Callable[[Manifest, Init, FinetuneConfig], float]


@dataclass
class Trial:
    """A candidate and what is known of it.

    Attributes:
        name: of the candidate.
        why: why it is one.
        estimate: seconds of a whole training, from its first steps.
        share: of the steps, in the longest training it has had.
        value: score on the held-out clips after these.
        seconds: all that its trainings took.
        note: why it was not tried, or not further.
    """

    name: str
    why: str
    estimate: float = 0.0
    share: float = 0.0
    value: float | None = None
    seconds: float = 0.0
    note: str = ""


@dataclass
class Search:
    """What is written to `budget.json`.

    Attributes:
        minutes: the budget.
        metric: what candidates are compared by.
        held: clips that they are compared on.
        spent: seconds so far, over all processes that worked on the run.
        trials: the candidates.
        chosen: name of the one that was taken, and why.
    """

    minutes: float
    metric: str = ""
    held: int = 0
    spent: float = 0.0
    trials: list[Trial] = field(default_factory=list)
    chosen: str = ""
    reason: str = ""

    def trial(self, name: str) -> Trial:
        """The candidate of a name."""
        return next(trial for trial in self.trials if trial.name == name)


def candidates(config: FinetuneConfig, init: Init) -> dict[str, tuple[str, FinetuneConfig]]:
    """Name -> why it is tried, and its options; the cheapest first."""

    def made(**changes: Any) -> FinetuneConfig:
        rate = changes.pop("lr", None)
        optimiser = replace(config.train.optimiser, lr=rate)
        train = replace(config.train, optimiser=optimiser)
        plain: dict[str, Any] = {
            "budget": None,
            "shots": None,
            "validation": 0.0,
            "protocol": "split",
        }
        return replace(config, **plain, train=train, **changes).with_rate()

    near = AdaptationConfig(layer_decay=0.75)
    full = {
        "full, rate 0.0003": ("all weights, early layers less", made(lr=3e-4, adaptation=near)),
        "full, rate 0.001": (
            "the same, faster: for small encoders",
            made(lr=1e-3, adaptation=near),
        ),
    }
    if init is None:
        return full
    free = AdaptationConfig()
    begun = replace(config.classifier, head="probe")
    return {
        "probe": ("nothing can overfit but a linear layer", made(method="probe", adaptation=free)),
        "lora from a probe, rate 0.001": (
            "few weights, slowly",
            made(method="lora", lr=1e-3, adaptation=free, classifier=begun),
        ),
        "lora from a probe, rate 0.005": (
            "few weights",
            made(method="lora", lr=5e-3, adaptation=free, classifier=begun),
        ),
        "conformer from a probe": (
            "few weights that hear order",
            made(method="conformer", adaptation=free, classifier=begun),
        ),
        "full from a probe": (
            "keeps what the encoder knows (Kumar et al. 2022)",
            made(lr=3e-4, adaptation=near, classifier=begun),
        ),
        **full,
    }


def search(
    manifest: Manifest,
    init: Init,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int,
    train: Callable[[Manifest, FinetuneConfig, Run, bool], Any],
    cost: Cost,
) -> tuple[Manifest, FinetuneConfig]:
    """Choose a method and a rate.

    Args:
        manifest: labelled recordings.
        init: what training starts from.
        config: the options, with a `budget`.
        run: the folder; `budget.json` and `budget/` are left in it.
        seed: of the held-out part and of the trials.
        train: trains and tests: manifest, options, run, whether it is continued -> `Finetuned`.
        cost: measures a training by its first steps.

    Returns:
        The table with all training clips in one part, and the options of the chosen candidate.

    Raises:
        UserError: options that leave nothing to choose; every candidate fails.
    """
    _check(config)
    began = time.monotonic()
    whole = _whole(manifest, config, seed)
    apart = _apart(whole, seed)
    options = candidates(config, init)
    path = run.folder / "budget.json"
    found = _read(path, config) or Search(
        float(config.budget or 0), trials=[Trial(name, why) for name, (why, _) in options.items()]
    )
    found.held = int((apart.table["split"] == "test").sum())
    before = found.spent

    def save() -> None:
        found.spent = before + time.monotonic() - began
        write_json(path, asdict(found))

    def left() -> float:
        return 60 * found.minutes - (before + time.monotonic() - began)

    if found.held < _FEW:
        run.log(f"budget: {found.held} clips choose among methods; small differences mean nothing")
    state = _State(run, apart, options, found, train, save, left, seed)
    if not found.chosen:
        _measure(state, init, cost)
        _rounds(state)
        found.chosen, found.reason = _best(state)
        save()
    run.log(f"budget: {found.chosen} is trained on all clips: {found.reason}")
    run.metrics({"budget": asdict(found)})
    return whole, options[found.chosen][1]


@dataclass
class _State:
    """What the trials share."""

    run: Run
    apart: Manifest
    options: dict[str, tuple[str, FinetuneConfig]]
    found: Search
    train: Callable[[Manifest, FinetuneConfig, Run, bool], Any]
    save: Callable[[], None]
    left: Callable[[], float]
    seed: int

    def tried(self, trial: Trial, share: float) -> None:
        """Train a candidate for a share of the steps, unless that was done, and score it."""
        config = self.options[trial.name][1]
        if config.method == "probe":
            share = 1.0  # it has none, and is finished at once
        if trial.share >= share:
            return
        train = config.train
        if train.steps is None:
            train = replace(train, epochs=share * train.epochs)
        else:
            train = replace(train, steps=max(1, round(share * train.steps)))
        config = replace(config, train=train)
        name = f"{trial.name} {share:g}".replace(",", "").replace(" ", "-")
        folder = self.run.folder / "budget" / name
        started, began = Run.exists(folder), time.monotonic()
        try:
            with Run.start(folder, self.run.verb, config, self.seed, resume=started) as inner:
                inner.echo = None
                done = self.train(self.apart, config, inner, started)
        except UserError as error:
            if error.exit_code > 128:  # by a signal
                raise
            trial.note = str(error)
            return
        finally:
            trial.seconds += time.monotonic() - began
            self.save()
        answers = done.answers[0]
        self.found.metric = next(iter(metrics_for(answers)))
        trial.value = float(score(metrics_for(answers)[self.found.metric], answers))
        trial.share = share
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        self.run.log(f"budget: {trial.name}, {share:.0%} of the steps: {trial.value:.3f}")
        self.save()


def _measure(state: _State, init: Init, cost: Cost) -> None:
    """Estimate what each candidate costs, and drop those that cannot be finished."""
    for trial in state.found.trials:
        config = state.options[trial.name][1]
        # A probe takes one pass over the clips.
        if trial.estimate or trial.note or config.method == "probe":
            continue
        try:
            trial.estimate = cost(state.apart, init, config)
        except UserError as error:
            trial.note = str(error)
        # To be chosen it has to train for a part of the steps here, and for all on all clips.
        if (_FIRST + 1 / (1 - _HELD)) * trial.estimate > state.left():
            trial.note = f"takes about {trial.estimate / 60:.1f} minutes: too long for the budget"
        state.save()


def _rounds(state: _State) -> None:
    """A quarter of the steps for all, then all of them for the better half."""
    for share in (_FIRST, 1.0):
        trials = [t for t in state.found.trials if not t.note]
        if share == 1.0:
            trials = sorted(
                (t for t in trials if t.value is not None), key=lambda t: -float(t.value or 0)
            )
            trials = trials[: -(-len(trials) // 2)]
        for trial in trials:
            final = max((t.estimate for t in trials if t.value is not None), default=trial.estimate)
            final = max(final, trial.estimate) / (1 - _HELD)
            if share * trial.estimate + final > state.left() and _any(state.found):
                if trial.value is None:
                    trial.note = "no time was left"
                continue
            state.tried(trial, share)


def _best(state: _State) -> tuple[str, str]:
    """The candidate with the best score of those that trained longest, the cheapest of equals. A
    probe has no steps, and competes with the others whatever their time allowed."""
    found = state.found
    tried = [t for t in found.trials if t.value is not None]
    if not tried:
        notes = "; ".join(f"{t.name}: {t.note}" for t in found.trials if t.note)
        raise UserError(f"budget: no candidate could be tried ({notes}); allow more minutes")
    probes = [t for t in tried if state.options[t.name][1].method == "probe"]
    trained = [t for t in tried if t not in probes]
    longest = max((t.share for t in trained), default=1.0)
    finalists = [*probes, *(t for t in trained if t.share == longest)]
    best = max(finalists, key=lambda t: (float(t.value or 0), -t.estimate))
    others = f" of {len(finalists)} with {longest:.0%} of the steps" if len(finalists) > 1 else ""
    metric = found.metric.replace("_", " ")
    return best.name, f"best {metric} on {found.held} held-out clips, {best.value:.3f}{others}"


def _any(found: Search) -> bool:
    return any(t.value is not None for t in found.trials)


def _check(config: FinetuneConfig) -> None:
    if config.method != "train":
        raise UserError(f"budget: chooses the method itself; leave --method {config.method} away")
    if config.protocol in ("folds", "groups") or config.seeds > 1:
        raise UserError("budget: works on one split with one seed; leave folds and seeds away")
    if config.classifier.task == "events":
        raise UserError("budget: chooses among classifiers of clips; detectors cannot be compared")
    if config.classifier.head != "norm_linear" or config.adaptation.weights != "full":
        raise UserError("budget: chooses head and weights itself; leave --head and --weights away")
    if launched() > 1:
        raise UserError("budget: measures the time of one process; run it without torchrun")


def _whole(manifest: Manifest, config: FinetuneConfig, seed: int) -> Manifest:
    """The table with a part called train, or `shots` clips a class of it, and one called test."""
    divided = divide(manifest, replace(config, protocol="split", validation=0.0), seed)
    part = divided.table["split"].to_numpy().astype(object).copy()
    part[part == "validation"] = "train"
    keep = np.ones(len(part), bool)
    if config.shots is not None:
        rows = np.flatnonzero(part == "train")
        drawn = few_shots(divided.take(rows.tolist()), config.shots, seed).rows
        keep[rows] = False
        keep[rows[drawn]] = True
    named = divided.with_columns(pl.Series("split", part.tolist(), dtype=pl.String))
    return named.take(np.flatnonzero(keep).tolist())


def _apart(whole: Manifest, seed: int) -> Manifest:
    """The training clips alone, a part of them to choose on in the place of test clips."""
    train = whole.where(pl.col("split") == "train")
    blank = train.with_columns(pl.lit(None, dtype=pl.String).alias("split"))
    try:
        return split(blank, validation=0.0, test=_HELD, seed=seed)
    except UserError as error:
        raise UserError(f"budget: no clips can be held out to choose on: {error}") from None


def _read(path: Path, config: FinetuneConfig) -> Search | None:
    """What an earlier part of the run found out."""
    if not path.is_file():
        return None
    values = dict(read_json(path))
    trials = [Trial(**trial) for trial in values.pop("trials")]
    return Search(**{**values, "minutes": float(config.budget or 0)}, trials=trials)


def measure(cost: Callable[..., tuple[Any, int, float]], seed: int, device: str) -> Cost:
    """`Cost` by `finetune.cost`, whose notes nobody needs."""

    def seconds(manifest: Manifest, init: Init, config: FinetuneConfig) -> float:
        with TemporaryDirectory() as scratch:
            run = Run.start(Path(scratch) / "run", "finetune", config, seed)
            run.echo = None
            each, _, _ = cost(manifest, init, config, run, seed=seed, device=device)
            run.finish("measured")
        return float(each.seconds)

    return seconds
