"""What a detector is trained on: crops of recordings with targets for every column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from sonoformer.data.crops import Cut, EventCrops, pieces, windows
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.order import Order
from sonoformer.data.strong import STRETCHES, Truth
from sonoformer.data.views import Parts
from sonoformer.encoders import is_published
from sonoformer.encoders.checkpoint import find_checkpoint
from sonoformer.encoders.columns import row_hertz
from sonoformer.errors import UserError
from sonoformer.files import read_json
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.config import HIGHEST_WEIGHT
from sonoformer.tasks.detection.heads import FrameHead, FrameKind
from sonoformer.tasks.detection.learner import Tagger
from sonoformer.tasks.detection.model import Detector, start_from
from sonoformer.tasks.heads import FrameName, HeadConfig
from sonoformer.tasks.lesson import Lesson
from sonoformer.tasks.model import Model, load_model
from sonoformer.tasks.start import Init
from sonoformer.training import TrainData
from sonoformer.weights.folder import CONFIG


def is_strong(clips: Clips) -> bool:
    """Whether the clips are recordings that know when things are heard."""
    return STRETCHES in clips.manifest.table.columns


def frame_head(config: FinetuneConfig, *, weak: bool) -> HeadConfig:
    """The head of a detector; with attention if it learns from labels of whole clips."""
    kinds: dict[FrameKind, FrameName] = {
        "mean": "frames_mean",
        "concat": "frames_concat",
        "full": "frames_full",
    }
    layers = config.classifier.layers
    return HeadConfig(
        kinds[config.events.head], layers=layers, single=False, softmax=False, attention=weak
    )


def starting_rows(model: Model, init: Init, config: FinetuneConfig) -> list[str]:
    """Give a detector's head the rows of the detector that training starts from.

    Returns:
        The classes taken over: those of the same name, if both heads are of one kind and width.
    """
    if not isinstance(model, Detector) or config.fresh or not isinstance(init, str | Path):
        return []
    if is_published(init):
        return []
    folder = find_checkpoint(init)
    kind = str(read_json(folder / CONFIG).get("head", {}).get("kind", ""))
    if not kind.startswith("frames_"):
        return []
    return start_from(cast(FrameHead, model.head), model.classes, load_model(folder))


def truth_of(clips: Clips, classes: Sequence[str], config: FinetuneConfig) -> Truth:
    """What is in the recordings of these classes."""
    seconds = clips.source.lengths / clips.source.sample_rate
    soft = config.events.targets == "share"
    cover = config.events.cover
    return Truth(clips.manifest, tuple(classes), seconds, cover=cover, soft=soft)


def strong_lesson(
    model: Detector,
    train: Clips,
    validation: Clips | None,
    config: FinetuneConfig,
    seed: int,
) -> Lesson:
    """Crops, order and loss of a detector's training.

    An epoch passes once over all that is known of the training recordings, but for the crops that
    are drawn around events in its place.

    Raises:
        UserError: no event in the training recordings, or options that do not fit.
    """
    model.seconds = config.seconds
    truth = truth_of(train, model.classes, config)
    if not truth.events:
        raise UserError(f"{train.manifest.source}: no event in the training recordings")
    cut = _cut(model, truth, config)
    parts = pieces(train.source, truth, cut.samples)
    dataset = EventCrops(parts, truth, cut, seed=seed, train=True, augment=config.augment)
    batch_size = config.train.batch_size
    order = Order(
        len(parts),
        batch_size=batch_size,
        seed=seed,
        weights=_chances(train, parts),
        # Few long recordings give few pieces; a batch is full all the same.
        samples=max(len(parts), batch_size),
    )
    learner = Tagger(
        model,
        config.classifier,
        config.adaptation,
        config.augment,
        torch.from_numpy(positive_weights(truth, config)),
        order.steps_per_epoch / config.train.accumulate,
    )
    watched = None
    if validation is not None and len(validation):
        heard = truth_of(validation, model.classes, config)
        whole = windows(validation.source, heard, cut.samples)
        crops = EventCrops(whole, heard, cut, seed=0, train=False)
        watched = EvaluationLoader(crops, 2 * batch_size) if len(whole) else None
    return Lesson(learner, TrainData(dataset, order), watched)


def positive_weights(truth: Truth, config: FinetuneConfig) -> NDArray[np.float32]:
    """`(classes,)` weight of a present class in the loss: as it is given, or by how rare it is."""
    given = config.events.positive_weight
    if given is not None:
        return np.full(len(truth.classes), given, np.float32)
    return np.clip(truth.balance(), 1.0, HIGHEST_WEIGHT).astype(np.float32)


def _cut(model: Detector, truth: Truth, config: FinetuneConfig) -> Cut:
    grid = model.grid
    samples = round(config.seconds * model.sample_rate)
    columns = grid.count(samples)
    if not columns:
        raise UserError(
            f"seconds: {config.seconds:g} s are less than one column of tokens, "
            f"{grid.needed(1) / model.sample_rate:.3f} s"
        )
    bands = None
    if config.events.head == "full" and any(event.low_hz == event.low_hz for event in truth.events):
        bands = row_hertz(model.encoder)
    return Cut(
        samples,
        columns,
        grid.edges,
        config.events.crop_share,
        config.sampling == "balanced",
        bands,
    )


def _chances(train: Clips, parts: Parts) -> NDArray[np.float64] | None:
    """Chance of each piece, where the table weighs its recordings."""
    column = train.manifest.table["weight"]
    if not column.is_not_null().any():
        return None
    return column.fill_null(1.0).to_numpy().astype(np.float64)[parts.rows]
