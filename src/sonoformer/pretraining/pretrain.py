"""Pretraining from recordings to a checkpoint: what `sonoformer pretrain` runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from cyclopts import Parameter
from numpy.typing import NDArray

from sonoformer.data.cache import pack
from sonoformer.data.dataset import ClipDataset, collate
from sonoformer.data.keys import key, numpy_generator
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.manifest import Manifest
from sonoformer.data.order import Order
from sonoformer.data.pool import Pool, gather
from sonoformer.data.sources import ClipSource, FileSource, Stretch
from sonoformer.data.views import Pieces, Subset
from sonoformer.encoders import AstEncoder, ast_config, save_encoder, with_statistics
from sonoformer.errors import UserError
from sonoformer.pretraining.mspm import Mspm, MspmConfig
from sonoformer.pretraining.starting import starting_point
from sonoformer.run import Run
from sonoformer.settings import plain
from sonoformer.spectral import FbankConfig, RunningStatistics
from sonoformer.training import FitResult, TrainConfig, TrainData, fit
from sonoformer.training.config import OptimiserConfig, ScheduleConfig
from sonoformer.training.cost import Estimate, estimate
from sonoformer.training.plan import Plan
from sonoformer.weights import assign

Progress = Callable[[float, float], None]

_ADAM = OptimiserConfig(name="adam", lr=5e-4, betas=(0.95, 0.999), weight_decay=5e-7)
_SCHEDULE = ScheduleConfig(name="cosine", warmup_steps=200)


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining; the defaults are SSAST tiny's, with a cosine schedule for shorter runs."""

    size: Literal["micro", "tiny", "small", "base"] = "tiny"
    """Width and depth of the encoder."""
    tokens: Literal["patch", "frame"] = "patch"
    """16x16 patches, for sound in general, or columns of 2 frames, for speech."""
    crop: float = 10.24
    """Longest clip in seconds; longer recordings are heard in crops."""
    shortest: float = 0.2
    """Recordings shorter than this many seconds are left out."""
    holdout: float = 0.05
    """Share of the recordings kept apart for validation."""
    holdout_most: int = 256
    """Most clips validated on."""
    balance: float = 0.0
    """How strongly sources (the manifest's group column, else the folder) are evened out: with 0
    each clip comes once an epoch; with 1 every source is heard equally often; 0.5 goes by the
    square root of their number of clips."""
    statistics: Literal["measure", "keep"] = "measure"
    """Measure the normalisation on the pool, or keep the front end's constants."""
    objective: MspmConfig = MspmConfig()
    """What is learnt from: masked spectrogram patch modelling."""
    front: FbankConfig = FbankConfig()
    """The filterbank."""
    train: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig(
        optimiser=_ADAM, schedule=_SCHEDULE
    )
    """How long and how fast."""

    def __post_init__(self) -> None:
        if self.crop <= 0 or self.shortest < 0:
            raise UserError("crop must be above 0 seconds, shortest at least 0")
        if not 0 <= self.holdout < 1 or self.holdout_most < 1:
            raise UserError("holdout must be at least 0 and below 1, holdout_most at least 1")
        if not 0 <= self.balance <= 1:
            raise UserError(f"balance: must be between 0 and 1; got {self.balance}")


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

    learner: Mspm
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
        sources: folders, files, patterns or manifests of unlabelled recordings.
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
    _save(ready, config, run, result)
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
    pool = gather(sources, exclude=exclude, min_seconds=config.shortest, progress=progress)
    for error in pool.bad:
        run.problem(error.path, error.reason)
    run.log(f"pool: {pool.summary}")
    rate, crop = config.front.sample_rate, round(config.crop * config.front.sample_rate)
    source, rows = _open(pool, rate, cache, run, progress)
    groups = _groups(pool, rows)
    held = _held_out([source.name(i) for i in range(len(source))], config, seed)
    heard = Pieces(Subset(source, np.flatnonzero(~held)), crop)
    encoder = _encoder(config, heard, crop, seed, init, run)
    learner = _learner(encoder, config, crop, seed, init)
    noise = learner.noise
    dataset = ClipDataset(heard, crop=crop, seed=seed, train=True, noise=noise)
    order = Order(
        len(heard),
        batch_size=config.train.batch_size,
        seed=seed,
        lengths=np.minimum(heard.lengths, crop),
        weights=_weights(groups[~held][heard.rows], config.balance),
    )
    validation = None
    if held.any():
        apart = Pieces(Subset(source, np.flatnonzero(held)), crop)
        chosen = numpy_generator(seed, "validation").permutation(len(apart))[: config.holdout_most]
        clips = ClipDataset(apart, crop=crop, seed=seed, train=False, noise=noise)
        validation = EvaluationLoader(clips, config.train.batch_size, np.sort(chosen))
    hours = float(heard.lengths.sum()) / rate / 3600
    run.log(f"training on {len(heard)} clips, {hours:.2f} h; validating on {int(held.sum())} files")
    return Prepared(learner, TrainData(dataset, order), validation, hours, _fingerprint(pool))


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


def _open(
    pool: Pool, rate: int, cache: str | Path | None, run: Run, progress: Progress | None
) -> tuple[ClipSource, list[int]]:
    table = pool.manifest.table
    stretches = [
        Stretch(path, start, start + duration, "mix" if channel is None else channel)
        for path, start, duration, channel in table.select(
            "path", "start", "duration", "channel"
        ).iter_rows()
    ]
    if cache is None:
        return FileSource(stretches, rate), list(range(len(stretches)))
    packed = pack(stretches, cache, rate, progress=progress)
    for path, reason in packed.problems:
        run.problem(path, reason)
    if not packed.rows:
        raise UserError(f"{pool.manifest.source}: none of its recordings can be read")
    return packed.cache, packed.rows


def _groups(pool: Pool, rows: list[int]) -> NDArray[np.int64]:
    """A number for each row's source: its group, or its folder."""
    table = pool.manifest.table[rows]
    names = [g or str(Path(p).parent) for g, p in table.select("group", "path").iter_rows()]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _weights(groups: NDArray[np.int64], balance: float) -> NDArray[np.float64] | None:
    if balance == 0:
        return None
    counts = np.bincount(groups).astype(np.float64)
    weights: NDArray[np.float64] = counts[groups] ** -balance
    return weights


def _held_out(names: list[str], config: PretrainConfig, seed: int) -> NDArray[np.bool_]:
    """Which items are validated on: by a hash of the file, so that a file is on one side only.

    At least one is, where any were asked for; none where nothing would be left to learn from.
    """
    scores = np.array(
        [
            key(
                seed, "holdout", int.from_bytes(hashlib.blake2b(n.encode(), digest_size=7).digest())
            )
            for n in names
        ]
    )
    held: NDArray[np.bool_] = scores < config.holdout * 2**63
    if config.holdout and not held.any():
        held = scores == scores.min()
    return held if held.sum() < len(held) else np.zeros(len(held), bool)


def _encoder(
    config: PretrainConfig,
    source: ClipSource,
    crop: int,
    seed: int,
    init: str | Path | None,
    run: Run,
) -> AstEncoder:
    if init is None:
        torch.manual_seed(key(seed, "weights"))
        encoder = AstEncoder(ast_config(config.size, config.tokens, front=config.front))
    else:
        encoder = starting_point(init)[0].train()
        if encoder.sample_rate != source.sample_rate:
            raise UserError(
                f"{init}: hears {encoder.sample_rate} Hz; set front.sample_rate to that"
            )
    if config.statistics == "keep":
        return encoder
    found = _measure(encoder, source, crop, seed)
    run.log(f"statistics of the log-mels: mean {found[0]:.4f}, std {found[1]:.4f}")
    return with_statistics(encoder, *found)


def _measure(
    encoder: AstEncoder, source: ClipSource, crop: int, seed: int, clips: int = 1000
) -> tuple[float, float]:
    """Mean and spread over the real frames of at most `clips` clips."""
    rows = numpy_generator(seed, "statistics").permutation(len(source))[:clips]
    dataset = ClipDataset(source, crop=crop, seed=seed, train=False)
    running = RunningStatistics()
    with torch.no_grad():
        for batch in EvaluationLoader(dataset, 16, np.sort(rows)):
            running.update(*encoder.front_end.raw(batch.wave, batch.lengths))
    result = running.result()
    return result.mean, result.std


def _learner(
    encoder: AstEncoder, config: PretrainConfig, crop: int, seed: int, init: str | Path | None
) -> Mspm:
    torch.manual_seed(key(seed, "objective"))
    learner = Mspm(encoder, config.objective, crop)
    if init is not None:
        # A head whose loss is switched off has no place to go.
        parts = {name for name, _ in learner.named_children()} | {"mask_token"}
        stored = starting_point(init)[1]
        own = {name: value for name, value in stored.items() if name.split(".")[0] in parts}
        if own:
            kept = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
            assign(learner, {**own, **kept}, str(init))
    return learner


def _fingerprint(pool: Pool) -> str:
    """Of the pool's files, stretches and lengths, whatever folder they lie in."""
    rows = pool.manifest.table.select("path", "start", "duration").iter_rows()
    text = "\n".join(f"{Path(path).name}|{start:.3f}|{length:.3f}" for path, start, length in rows)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _save(ready: Prepared, config: PretrainConfig, run: Run, result: FitResult) -> None:
    learner = ready.learner.cpu()
    encoder = learner.encoder
    assert isinstance(encoder, AstEncoder)
    own = {
        f"objective.{name}": value
        for name, value in learner.state_dict().items()
        if not name.startswith("encoder.")
    }
    figures = {name: value for name, value in result.final.items() if np.isfinite(value)}
    lines = "\n".join(f"- {name}: {value:.4g}" for name, value in figures.items())
    found = f"On held-out recordings:\n\n{lines}" if lines else "No recording was held out."
    card = (
        f"# Pretrained encoder\n\nMasked spectrogram patch modelling on {ready.hours:.2f} h of "
        f"unlabelled sound, {result.steps} steps of {config.train.batch_size} clips "
        f"({config.size}, {config.tokens} tokens).\n\n{found}\n"
    )
    extra = {"objective": {"name": "mspm", "config": plain(config.objective)}, "metrics": figures}
    save_encoder(encoder, run.folder / "model", card, extra=extra, tensors=own)
    run.metrics(
        {
            "steps": result.steps,
            "hours": ready.hours,
            "seconds": result.seconds,
            "loader_wait_share": result.wait_share,
            "validation": figures,
        }
    )
