"""From labelled recordings to a classifier that has been tested: what `sonoformer finetune` runs.

A run with one split trains in its own folder. With folds or several seeds each training has a run
of its own inside it, which is not repeated when the whole is resumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.dataset import collate
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import PatchEncoder
from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import MULTI, SINGLE, Answers, joined, score
from sonoformer.evaluation.predictions import load_predictions
from sonoformer.evaluation.scorecard import Scorecard, scorecard
from sonoformer.evaluation.statistics import Interval, crossed_interval, t_interval
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks.budget import measure, search
from sonoformer.tasks.clips import Clips, by_label, open_clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.lesson import is_strong
from sonoformer.tasks.detection.marks import check_ends, of_events
from sonoformer.tasks.detection.outcome import detector_outcome
from sonoformer.tasks.detection.scoring import AT
from sonoformer.tasks.detection.together import judge_together
from sonoformer.tasks.outcome import headline, write_outcome, write_summary
from sonoformer.tasks.scoring import answers_about, score_clips, unknown_notice
from sonoformer.tasks.start import Init, make_encoder
from sonoformer.tasks.turn import clip_features, prepare, probe_turn, train_turn
from sonoformer.tasks.turns import Task, Turn, check, divide, few, fingerprint, task_of, turns
from sonoformer.training.cost import Estimate, estimate
from sonoformer.training.devices import resolve_device
from sonoformer.training.plan import Plan

__all__ = ["FinetuneConfig", "Finetuned", "cost", "finetune"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finetuned:
    """What a run of `finetune` found.

    Attributes:
        folder: of the run.
        models: the model folders, one a training.
        answers: one a seed: about all clips that were tested, the folds put together.
        card: scores with intervals over clips (and seeds); None if nothing was tested.
        over_folds: score -> mean and interval over folds and seeds; empty for one training.
    """

    folder: Path
    models: list[Path]
    answers: list[Answers]
    card: Scorecard | None
    over_folds: dict[str, Interval]


@dataclass(frozen=True)
class _Job:
    """All that the trainings of a run share."""

    init: Init
    config: FinetuneConfig
    task: Task
    clips: Clips
    turns: list[Turn]
    data: str
    device: str
    features: Path
    bar: bool | None


@dataclass(frozen=True)
class _Done:
    """One training, tested."""

    model: Path
    answers: Answers | None


def finetune(
    manifest: Manifest,
    init: Init,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
    bar: bool | None = None,
) -> Finetuned:
    """Train a classifier and test it on clips that it has never met.

    Leaves in `run.folder`: `model/`, `metrics.json`, `predictions.parquet`, `confusion.png`,
    `report.html`, and what training leaves; for several trainings `fold-1/` and so on, each a run.

    Args:
        manifest: labelled recordings.
        init: a pretrained checkpoint, run or encoder; None starts from random weights.
        config: the options.
        run: the folder.
        seed: of splits, weights, data order and augmentation.
        device: where to train.
        resume: continue the run; trainings that are finished are not done again.
        cache: folder in which sound is packed, decoded once; None reads the files each time.
        progress: called with (done, in all) while sound is packed or features are computed.
        bar: show a bar while training; on a terminal only by default.

    Raises:
        UserError: labels, parts or options that cannot give a true result.
    """
    if config.budget is not None:
        shared = {"device": device, "cache": cache or run.folder / "cache", "bar": False}

        def trained(table: Manifest, chosen: FinetuneConfig, inner: Run, again: bool) -> Finetuned:
            return finetune(table, init, chosen, inner, seed=seed, resume=again, **shared)  # type: ignore[arg-type]

        known = measure(cost, seed, device)
        manifest, config = search(manifest, init, config, run, seed=seed, train=trained, cost=known)
    config = config.with_rate()
    job = _job(manifest, init, config, run, seed, device, cache, progress, bar)
    run.data(job.data)
    if not job.turns[0].fold and config.seeds == 1:
        done = _train(job, job.turns[0], run, seed, resume, progress)
        answers = [] if done.answers is None else [done.answers]
        card = None if done.answers is None else scorecard(done.answers, resamples=config.resamples)
        return Finetuned(run.folder, [done.model], answers, card, {})
    return _several(job, run, seed, progress)


def cost(
    manifest: Manifest,
    init: Init,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Estimate, int, float]:
    """For `--dry-run`: cost of one training, how many there are, and seconds of labelled sound.

    A probe's cost is that of one pass over the clips, which this overestimates.
    """
    config = config.with_rate()
    job = _job(manifest, init, config, run, seed, device, None, None, False)
    turn = few(job.turns[0], job.clips.manifest, config, seed, run.log)
    lesson = prepare(init, job.clips.take(turn.train), None, job.task, config, seed)
    order, dataset = lesson.data.order, lesson.data.dataset
    lengths = dataset.source.lengths
    batches = [order.batch(step) for step in range(order.steps_per_epoch)]
    batches.sort(key=lambda draws: float(lengths[[d.index for d in draws]].mean()))
    batch = collate([dataset[draw] for draw in batches[len(batches) // 2]]).prepared()
    total = Plan.of(config.train, order.steps_per_epoch).total
    each = estimate(lesson.learner, batch, total, config.train, device)
    seconds = float(job.clips.source.lengths.sum()) / job.clips.source.sample_rate
    return each, len(job.turns) * config.seeds, seconds


def _job(
    manifest: Manifest,
    init: Init,
    config: FinetuneConfig,
    run: Run,
    seed: int,
    device: str,
    cache: Path | None,
    progress: Progress | None,
    bar: bool | None,
) -> _Job:
    resolve_device(device)
    encoder = make_encoder(init, config, seed)
    manifest = manifest.require_labels()
    if config.classifier.task == "events":
        manifest = of_events(manifest, config.events, run.log)
    divided = divide(manifest, config, seed)
    task = task_of(divided, config)
    check(divided, config, task, run.log)
    clips = open_clips(divided, encoder.sample_rate, cache, problem=run.problem, progress=progress)
    if is_strong(clips):
        check_ends(clips, run.log)
    found = turns(clips.manifest, config, seed)
    counts = by_label(clips.manifest)
    run.log(
        f"{len(clips)} clips, {clips.source.lengths.sum() / encoder.sample_rate / 3600:.2f} h, "
        f"{len(task.classes)} classes ({'one' if task.single else 'any number'} a clip); "
        f"the largest has {max(counts.values())} clips, the smallest {min(counts.values())}"
    )
    data = fingerprint(clips.manifest, task)
    features = (cache or run.folder) / "features"
    return _Job(init, config, task, clips, found, data, device, features, bar)


def _train(
    job: _Job, turn: Turn, run: Run, seed: int, resume: bool, progress: Progress | None
) -> _Done:
    """Train, test, and write all that comes of it."""
    clips, config = job.clips, job.config
    turn = few(turn, clips.manifest, config, seed, run.log)
    test, scores = clips.take(turn.test), None

    def features(encoder: PatchEncoder) -> NDArray[np.float32]:
        return clip_features(
            encoder,
            clips,
            config,
            job.features,
            data=job.data,
            device=job.device,
            progress=progress,
        )

    shared = (job.init, clips, turn, job.task, config, run)
    if config.method == "probe":
        trained, scores = probe_turn(*shared, features=features, seed=seed)
    else:
        trained = train_turn(
            *shared,
            features=features,
            store=job.features,
            data=job.data,
            seed=seed,
            device=job.device,
            resume=resume,
            bar=job.bar,
            progress=progress,
        )
    if is_strong(clips):
        where = resolve_device(job.device)
        model, answers = detector_outcome(
            run, trained, clips, turn, config, seed=seed, device=where, bar=job.bar
        )
        return _Done(model, answers)
    answers = None
    if len(test):
        if notice := unknown_notice(test.manifest, job.task.classes):
            run.log(notice)
        if scores is None:
            scores = score_clips(
                trained.model,
                test.first(config.seconds) if config.crops == "first" else test,
                seconds=config.seconds,
                batch_size=2 * config.train.batch_size,
                device=resolve_device(job.device),
                precision=config.train.precision,
            )
        answers = answers_about(trained.model, test, scores)
    model = write_outcome(run, trained, answers, test, config, trained_on=len(turn.train))
    return _Done(model, answers)


def _several(job: _Job, run: Run, seed: int, progress: Progress | None) -> Finetuned:
    """Every fold with every seed, each in a run of its own, and what they say together."""
    config = job.config
    done: dict[tuple[int, str], _Done] = {}
    parts: dict[str, Answers] = {}
    tested: dict[str, tuple[NDArray[np.int64], Path]] = {}
    for number in range(config.seeds):
        for turn in job.turns:
            name = _name(turn, seed + number if config.seeds > 1 else None)
            result = _once(job, turn, run, name, seed + number, progress)
            done[number, turn.fold] = result
            if result.answers is not None:
                parts[name] = result.answers
                tested[name] = turn.test, run.folder / name
    models = [result.model for result in done.values()]
    runs = [
        joined([a for turn in job.turns if (a := done[n, turn.fold].answers) is not None])
        for n in range(config.seeds)
        if any(done[n, turn.fold].answers is not None for turn in job.turns)
    ]
    if not runs:
        return Finetuned(run.folder, models, [], None, {})
    card = scorecard(runs, resamples=config.resamples)
    over = _over(job, done, list(card.figures))
    rows = np.concatenate([turn.test for turn in job.turns])
    folds = [t.fold for t in job.turns if (a := done[0, t.fold].answers) for _ in range(len(a))]
    if is_strong(job.clips):
        # A detector's answers are about frames, of which none is worth hearing alone.
        judged = judge_together(run, job.clips, tested, job.task.classes, config)
        write_summary(run, card, runs, over, parts, None, folds, config, judged)
    else:
        write_summary(run, card, runs, over, parts, job.clips.take(rows), folds, config)
    return Finetuned(run.folder, models, runs, card, over)


def _once(
    job: _Job, turn: Turn, run: Run, name: str, seed: int, progress: Progress | None
) -> _Done:
    """A training in `run.folder / name`, or what is left of it when it is finished already."""
    folder = run.folder / name
    started = Run.exists(folder)
    if started and read_json(folder / "run.json").get("status") == "finished":
        result = _again(job, turn, folder)
        told = "" if result.answers is None else f", {headline(result.answers)}"
        run.log(f"{name}: finished earlier{told}")
        return result
    with Run.start(folder, run.verb, job.config, seed, resume=started) as inner:
        inner.echo = None if run.echo is None else (lambda text: run.log(f"{name}: {text}"))
        inner.data(job.data)
        return _train(job, turn, inner, seed, started, progress)


def _again(job: _Job, turn: Turn, folder: Path) -> _Done:
    """What a finished training left."""
    if not len(turn.test):
        return _Done(folder / "model", None)
    answers = load_predictions(folder / "predictions.parquet", single=job.task.single)
    names = list(answers.clips)
    if is_strong(job.clips):
        names = list(dict.fromkeys(name.rpartition(AT)[0] for name in names))
    if names != job.clips.take(turn.test).names:
        raise UserError(
            f"{folder}: was tested on other clips than it would be now; start a new run in another "
            "--out"
        )
    return _Done(folder / "model", answers)


def _name(turn: Turn, seed: int | None) -> str:
    """Folder of a training: its fold, and its seed if there are several."""
    parts = [f"fold-{re.sub(r'[^A-Za-z0-9._-]+', '_', turn.fold)}"] if turn.fold else []
    return "-".join(parts + ([f"seed-{seed}"] if seed is not None else []))


def _over(
    job: _Job, done: Mapping[tuple[int, str], _Done], names: Sequence[str]
) -> dict[str, Interval]:
    """Mean and interval of each score over the folds and seeds."""
    over = {}
    for name in names:
        metric = (SINGLE if job.task.single else MULTI)[name]
        table = np.array(
            [
                [score(metric, a) if (a := done[n, t.fold].answers) else np.nan for t in job.turns]
                for n in range(job.config.seeds)
            ]
        )
        if np.isnan(table).any():
            continue
        if min(table.shape) == 1:
            kind = "folds" if table.shape[1] > 1 else "seeds"
            over[name] = t_interval(table.ravel().tolist(), kind, bounds=(0.0, 1.0))
        else:
            over[name] = crossed_interval(table, resamples=job.config.resamples)
    return over
