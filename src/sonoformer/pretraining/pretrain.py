"""Pretraining from recordings to a checkpoint: what `sonoformer pretrain` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sonoformer.data.dataset import ClipDataset, collate
from sonoformer.data.keys import key, numpy_generator
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.manifest import Manifest
from sonoformer.data.order import Order
from sonoformer.data.views import Subset
from sonoformer.encoders import PatchEncoder, save_encoder, with_config
from sonoformer.pretraining import OBJECTIVES
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.encoder import make_encoder
from sonoformer.pretraining.listening import (
    Progress,
    chances,
    fingerprint,
    hear,
    held_out,
    pieces,
    sets_heard,
)
from sonoformer.pretraining.objective import Objective
from sonoformer.pretraining.starting import starting_point
from sonoformer.run import Run
from sonoformer.settings import plain
from sonoformer.training import FitResult, TrainData, fit
from sonoformer.training.cost import Estimate, estimate
from sonoformer.training.plan import Plan
from sonoformer.weights import assign

__all__ = ["Prepared", "PretrainConfig", "cost", "prepare", "pretrain"]


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs before its first step.

    Attributes:
        learner: encoder and objective.
        train: clips and order.
        validation: held-out clips, or None.
        hours: sound that is trained on.
        fingerprint: of the pool.
    """

    learner: Objective
    train: TrainData
    validation: EvaluationLoader | None
    hours: float
    fingerprint: str


def pretrain(
    sources: Sequence[str | Path | Manifest],
    config: PretrainConfig,
    run: Run,
    *,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    init: str | Path | None = None,
    exclude: Sequence[Manifest] = (),
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Pretrain an encoder and leave it in `run.folder / "model"`.

    Args:
        sources: folders, files, patterns or manifests of unlabelled recordings; or folders of
            packed sound, caches or shards.
        config: the options.
        run: the folder.
        seed: of weights, data order, crops and masks.
        device: where to train.
        resume: continue the run.
        init: a checkpoint, or a published SSAST's file, to continue from, with new statistics and
            a new schedule.
        exclude: manifests whose recordings must not be heard (test sets).
        cache: folder of the packed sound; recordings are read from their files if absent.
        progress: called with (done, in all) while recordings are opened and packed.

    Raises:
        UserError: no usable recordings, or options that do not fit them.
    """
    ready = prepare(
        sources, config, run, seed=seed, init=init, exclude=exclude, cache=cache, progress=progress
    )
    run.data(ready.fingerprint)
    result = fit(
        ready.learner,
        ready.train,
        ready.validation,
        config.train,
        run,
        seed=seed,
        device=device,
        resume=resume,
    )
    _save(ready, config, run, result, sets_heard(sources))
    return result


def prepare(
    sources: Sequence[str | Path | Manifest],
    config: PretrainConfig,
    run: Run,
    *,
    seed: int,
    init: str | Path | None = None,
    exclude: Sequence[Manifest] = (),
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Pool, packed sound, split, statistics and learner; as `pretrain`."""
    rate, crop = config.front.rate, round(config.crop * config.front.rate)
    pool, source, rows = hear(sources, rate, config.shortest, exclude, cache, run, progress)
    held = held_out([source.name(i) for i in range(len(source))], config.holdout, seed)
    heard = pieces(Subset(source, np.flatnonzero(~held)), crop, config.crops)
    encoder = make_encoder(config, heard, seed, init, run)
    learner = _learner(encoder, config, crop, seed, init)
    noise = learner.noise
    dataset = ClipDataset(
        heard, crop=crop, seed=seed, train=True, augment=config.augment, noise=noise
    )
    kept, shards = np.flatnonzero(~held)[heard.rows], getattr(source, "shards", None)
    order = Order(
        len(heard),
        batch_size=config.train.batch_size,
        seed=seed,
        # Where all clips are padded to one length, there is nothing to gain by sorting them.
        lengths=None if config.front.fixed_frames else np.minimum(heard.lengths, crop),
        shards=None if shards is None else shards[kept],
        weights=chances(
            pool,
            rows,
            kept,
            config.balance,
            config.weights == "manifest",
        ),
    )
    validation, judged = None, "nothing"
    if held.any():
        apart = pieces(Subset(source, np.flatnonzero(held)), crop, config.crops)
        chosen = numpy_generator(seed, "validation").permutation(len(apart))[: config.holdout_most]
        clips = ClipDataset(apart, crop=crop, seed=seed, train=False, noise=noise)
        validation = EvaluationLoader(clips, config.train.batch_size, np.sort(chosen))
        judged = f"{len(chosen)} clips of the {int(held.sum())} files held out"
    hours = float(heard.lengths.sum()) / rate / 3600
    run.log(f"training on {len(heard)} clips, {hours:.2f} h; validating on {judged}")
    return Prepared(learner, TrainData(dataset, order), validation, hours, fingerprint(pool))


def cost(ready: Prepared, config: PretrainConfig, device: str) -> Estimate:
    """Time, memory and disk of the run, from a few real steps on clips of typical length."""
    plan = Plan.of(config.train, ready.train.order.steps_per_epoch)
    order = ready.train.order
    lengths = ready.train.dataset.source.lengths
    steps = range(order.steps_per_epoch)
    by_length = sorted(steps, key=lambda s: lengths[[d.index for d in order.batch(s)]].mean())
    typical = order.batch(by_length[len(by_length) // 2])
    batch = collate([ready.train.dataset[draw] for draw in typical])
    return estimate(ready.learner, batch.prepared(), plan.total, config.train, device)


def _learner(
    encoder: PatchEncoder, config: PretrainConfig, crop: int, seed: int, init: str | Path | None
) -> Objective:
    torch.manual_seed(key(seed, "objective"))
    learner = OBJECTIVES[config.objective][1](encoder, config.chosen, crop)
    if init is not None:
        begun = starting_point(init)
        parts = {name.split(".")[0] for name in learner.own_state()}
        # A head whose loss is switched off has no place to go.
        stored = {n: v for n, v in begun.tensors.items() if n.split(".")[0] in parts}
        if stored and begun.objective == config.objective:
            others = learner.state_dict().keys() - learner.own_state().keys()
            kept = {name: learner.state_dict()[name] for name in others}
            assign(learner, {**stored, **kept}, str(init))
    learner.begin()
    return learner


def _save(
    ready: Prepared,
    config: PretrainConfig,
    run: Run,
    result: FitResult,
    sets: dict[str, object] | None,
) -> None:
    learner = ready.learner.cpu()
    encoder = learner.kept()
    assert isinstance(encoder, PatchEncoder)
    own = {f"objective.{name}": value for name, value in learner.own_state().items()}
    figures = {name: value for name, value in result.final.items() if np.isfinite(value)}
    lines = "\n".join(f"- {name}: {value:.4g}" for name, value in figures.items())
    found = f"On held-out recordings:\n\n{lines}" if lines else "No recording was held out."
    card = (
        f"# Pretrained encoder\n\n{learner.title} on {ready.hours:.2f} h of "
        f"unlabelled sound, {result.steps} steps of {config.train.batch_size} clips "
        f"({config.encoder} {config.size}, {config.tokens} tokens).\n\n{found}\n"
    )
    extra = {
        "objective": {"name": config.objective, "config": plain(config.chosen)},
        "metrics": figures,
    }
    if sets is not None:
        extra["heard"] = sets
    save_encoder(
        with_config(encoder, drop_path=0.0), run.folder / "model", card, extra=extra, tensors=own
    )
    run.metrics(
        {
            "steps": result.steps,
            "hours": ready.hours,
            "seconds": result.seconds,
            "loader_wait_share": result.wait_share,
            "validation": figures,
        }
    )
