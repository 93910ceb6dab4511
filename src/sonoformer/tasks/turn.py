"""One training of a classifier: encoder, head, data, and the engine; or a probe in its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from sonoformer.adaptation.petl import METHODS, Petl
from sonoformer.data.classes import class_weights, sampling_weights
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.keys import key
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.order import Order
from sonoformer.data.views import Windows
from sonoformer.encoders import PatchEncoder
from sonoformer.evaluation.features import cached_features, compute_features, feature_key
from sonoformer.run import Run
from sonoformer.tasks.adapted import adapt
from sonoformer.tasks.classification import Classifier
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.lesson import frame_head, is_strong, starting_rows, strong_lesson
from sonoformer.tasks.detection.model import Detector, made
from sonoformer.tasks.frozen import compute_once, digest
from sonoformer.tasks.lesson import Lesson
from sonoformer.tasks.model import Model
from sonoformer.tasks.probed import begin, fitted, puzzled, useful_targets
from sonoformer.tasks.start import Init, starting_encoder
from sonoformer.tasks.turns import Task, Turn
from sonoformer.training import TrainData, fit
from sonoformer.training.devices import resolve_device, resolve_precision
from sonoformer.training.journal import Row

Progress = Callable[[int, int], None]


@dataclass
class Trained:
    """A model and how it came about.

    Attributes:
        model: the classifier.
        history: rows of the training curves; empty for a probe.
        facts: plain values for the model's `config.json`.
    """

    model: Model
    history: list[Row] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


def prepare(
    init: Init,
    train: Clips,
    validation: Clips | None,
    task: Task,
    config: FinetuneConfig,
    seed: int,
) -> Lesson:
    """Encoder, head, targets, order and loss of a training.

    Raises:
        UserError: as `make_encoder`.
    """
    encoder = starting_encoder(init, train, config, seed)
    record = None
    if config.method in METHODS:
        record = adapt(encoder, init, cast(Petl, config.method), config.petl, seed)
    model = _model(encoder, train, task, config, seed)
    model.adapted = record
    known_rows = starting_rows(model, init, config)
    if is_strong(train):
        lesson = strong_lesson(cast(Detector, model), train, validation, config, seed)
        return replace(lesson, taken=known_rows)
    train, target, known = _labelled(train, task)
    crop = round(config.seconds * model.sample_rate)
    dataset = ClipDataset(
        train.source,
        crop=crop,
        seed=seed,
        train=True,
        targets=target,
        known=known,
        augment=config.augment,
        crops=config.crops,
    )
    padded = encoder.config.front.fixed_frames is not None
    order = Order(
        len(train),
        batch_size=config.train.batch_size,
        seed=seed,
        lengths=None if padded else _uneven(np.minimum(train.source.lengths, crop)),
        weights=_chances(train, target, config),
    )
    balanced = config.classifier.class_weights == "balanced"
    weights = torch.from_numpy(class_weights(target, known)).float() if balanced else None
    learner = Classifier(
        model,
        config.classifier,
        config.adaptation,
        config.augment,
        weights,
        order.steps_per_epoch / config.train.accumulate,
    )
    watched = None
    if validation is not None and len(validation):
        watched = _watched(validation, task, crop, config)
    return Lesson(learner, TrainData(dataset, order), watched, known_rows)


def train_turn(
    init: Init,
    clips: Clips,
    turn: Turn,
    task: Task,
    config: FinetuneConfig,
    run: Run,
    *,
    features: Callable[[PatchEncoder], NDArray[np.float32]],
    store: Path,
    data: str,
    seed: int,
    device: str,
    resume: bool,
    bar: bool | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train encoder and head as the options say; curves and checkpoints go to `run`.

    Args:
        init, task, config, run: as for every training.
        clips: the clips of all parts.
        turn: which of them are trained on and watched.
        features: encoder -> `(clips, dim)`, for a head that starts as a probe.
        store: folder of what is computed once.
        data: fingerprint of the clips.
        seed: of weights, order and augmentation.
        device: where to train.
        resume: continue from the run's checkpoint.
        bar: show a progress bar; on a terminal only by default.
        progress: called with (clips done, clips in all) while the frozen part is computed.
    """
    train, validation = clips.take(turn.train), clips.take(turn.validation)
    lesson = prepare(init, train, validation, task, config, seed)
    if config.classifier.head == "probe":
        model = lesson.learner.model
        matrix = features(cast(PatchEncoder, model.encoder))
        found = fitted(matrix, clips, turn.train, task, config, seed)
        begin(model, found)
        run.log(f"the head starts as a probe: penalty {found.penalty:g}")
        if config.augment.changes and (line := puzzled(lesson.learner, lesson.data)):
            run.log(line)
    if lesson.taken:
        run.log(f"the head knows {', '.join(lesson.taken)} from {init}")
    groups = lesson.learner.parameter_groups(config.train.optimiser.peak)
    count = sum(p.numel() for group in groups for p in group["params"])
    whole = sum(p.numel() for p in lesson.learner.parameters())
    share = f" of {whole / 1e6:.2f} M" if count < whole else ""
    run.log(
        f"training {count / 1e6:.2f} M{share} weights on {len(lesson.data.dataset)} clips, "
        f"{len(task.classes)} classes"
    )
    scratch = run.folder / "frozen"
    where = resolve_device(device)
    once = compute_once(
        lesson.learner.model,
        config.adaptation,
        config.frozen_cache,
        (lesson.data.dataset, None if lesson.validation is None else lesson.validation.dataset),
        store=store,
        scratch=scratch,
        data=f"{data} {digest(turn.train)} {digest(turn.validation)}",
        device=where,
        precision=resolve_precision(config.train.precision, where),
        say=run.log,
        progress=progress,
    )
    if once is not None:
        lesson.learner.kept, dataset, watched = once
        lesson.data = TrainData(dataset, lesson.data.order)
        if watched is not None:
            lesson.validation = EvaluationLoader(watched, 2 * config.train.batch_size)
    result = fit(
        lesson.learner,
        lesson.data,
        lesson.validation,
        config.train,
        run,
        seed=seed,
        device=device,
        resume=resume,
        progress=bar,
    )
    # Tokens take much room; vectors do not, and the next seed may want them.
    shutil.rmtree(scratch, ignore_errors=True)
    lesson.learner.kept = None
    facts: dict[str, object] = {"steps": result.steps, "validation": result.final}
    run.metrics({**facts, "seconds": result.seconds, "loader_wait_share": result.wait_share})
    return Trained(lesson.learner.model.eval(), result.history, facts)


def probe_turn(
    init: Init,
    clips: Clips,
    turn: Turn,
    task: Task,
    config: FinetuneConfig,
    run: Run,
    *,
    features: Callable[[PatchEncoder], NDArray[np.float32]],
    seed: int,
) -> tuple[Trained, NDArray[np.float32]]:
    """A linear classifier on the frozen encoder's features, and its scores of the test clips.

    Args:
        init, task, config, run, seed: as `train_turn`.
        clips: the clips of all parts.
        turn: which of them are trained and tested on.
        features: encoder -> `(clips, dim)`; computes them or remembers.
    """
    rows = np.concatenate([turn.train, turn.validation])
    encoder = starting_encoder(init, clips.take(rows), config, seed).eval()
    matrix = features(encoder)
    found = fitted(matrix, clips, rows, task, config, seed)
    run.log(f"probe of {len(rows)} clips: penalty {found.penalty:g}")
    model = Model(encoder, task.classes, config.classifier.head_config(task.single, probe=True))
    begin(model, found)
    facts: dict[str, object] = {"penalty": found.penalty}
    run.metrics({**facts, "held_out_losses": {f"{p:g}": v for p, v in found.losses.items()}})
    return Trained(model.eval(), [], facts), found.probabilities(matrix[turn.test])


def clip_features(
    encoder: PatchEncoder,
    clips: Clips,
    config: FinetuneConfig,
    folder: Path,
    *,
    data: str,
    device: str,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """`(clips, dim)` features, means over windows; stored in `folder` and found there again.

    Args:
        encoder: the frozen encoder.
        clips: the sound.
        config: pooling, layers, and the longest window.
        folder: where features are kept.
        data: fingerprint of the clips.
        device: where to compute.
        progress: called with (windows done, windows in all).
    """
    pool, layers = config.classifier.pooling(probe=True), config.classifier.layers
    heard = clips.first(config.seconds) if config.crops == "first" else clips
    windows = Windows(heard.source, max(1, round(config.seconds * encoder.sample_rate)))

    def compute() -> NDArray[np.float32]:
        dataset = ClipDataset(windows, crop=None, seed=0, train=False)
        return compute_features(
            encoder,
            EvaluationLoader(dataset, 32),
            len(windows),
            device=resolve_device(device),
            pool=pool,
            layers=layers,
            progress=progress,
        )

    name = feature_key(encoder, f"{data} {config.seconds} {config.crops}", pool, layers)
    return windows.means(cached_features(folder, name, compute))


def _model(
    encoder: PatchEncoder, train: Clips, task: Task, config: FinetuneConfig, seed: int
) -> Model:
    head = config.classifier.head_config(task.single)
    if config.classifier.task == "events":
        head = frame_head(config, weak=not is_strong(train))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "head"))
        return made(encoder, task.classes, head)


def _labelled(clips: Clips, task: Task) -> tuple[Clips, NDArray[np.float32], NDArray[np.bool_]]:
    """The clips from which something can be learned, with their targets."""
    keep, target, known = useful_targets(clips, task)
    return (clips if keep.all() else clips.where(keep)), target, known


def _watched(
    clips: Clips, task: Task, crop: int, config: FinetuneConfig
) -> EvaluationLoader | None:
    clips, target, known = _labelled(clips, task)
    if not len(clips):
        return None
    dataset = ClipDataset(
        clips.source,
        crop=crop,
        seed=0,
        train=False,
        targets=target,
        known=known,
        crops=config.crops,
    )
    return EvaluationLoader(dataset, 2 * config.train.batch_size)


def _uneven(lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Lengths for bucketing, where clips differ enough for it to save padding."""
    return lengths if lengths.max() > 1.25 * lengths.min() else None


def _chances(
    train: Clips, target: NDArray[np.float32], config: FinetuneConfig
) -> NDArray[np.float64] | None:
    """Chance of each clip to be drawn: the table's weights, times the rarity of its classes."""
    column = train.manifest.table["weight"]
    given = column.is_not_null().any()
    if config.sampling == "uniform" and not given:
        return None
    chances = column.fill_null(1.0).to_numpy().astype(np.float64)
    return chances * sampling_weights(target) if config.sampling == "balanced" else chances
