"""Heads that are a linear classifier of a frozen encoder's features, or start as one."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sonoformer.data.classes import class_weights, targets
from sonoformer.data.loader import StepLoader
from sonoformer.evaluation.linear import LinearProbe, fit_probe
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.heads import PooledHead
from sonoformer.tasks.model import Model
from sonoformer.tasks.scoring import group_names
from sonoformer.tasks.turns import Task
from sonoformer.training import Learner, TrainData


def useful_targets(
    clips: Clips, task: Task
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_]]:
    """Which clips say something, and the targets and what is known of these."""
    target, known = targets(clips.manifest, task.classes, multi_label=not task.single, strict=False)
    useful = np.asarray(target.any(1) if task.single else known.any(1))
    return useful, target[useful], known[useful]


def fitted(
    matrix: NDArray[np.float32],
    clips: Clips,
    rows: NDArray[np.int64],
    task: Task,
    config: FinetuneConfig,
    seed: int,
) -> LinearProbe:
    """A linear classifier of the features `(clips, dim)` of those `rows` that say something."""
    keep, target, known = useful_targets(clips.take(rows), task)
    rows = rows[keep]
    weight = None
    if config.classifier.class_weights == "balanced":
        weight = (target @ class_weights(target, known)).astype(np.float32)
    single = config.classifier.head_config(task.single, probe=config.method == "probe").softmax
    return fit_probe(
        matrix[rows],
        target > 0,
        single=single,
        known=None if single else known,
        weight=weight,
        groups=group_names(clips.manifest.take(rows.tolist())),
        config=config.probe,
        seed=seed,
    )


def begin(model: Model, probe: LinearProbe) -> None:
    """Give a model's linear head the weights of a probe."""
    network = cast(nn.Linear, cast(PooledHead, model.head).network)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(probe.weight))
        network.bias.copy_(torch.from_numpy(probe.bias))


def puzzled(learner: Learner, data: TrainData) -> str | None:
    """A line for the user where a head that knows the clips does worse than guessing on what
    augmentation makes of them: training then unlearns first what the probe knew.

    Args:
        learner: a classifier whose head starts as a probe.
        data: what it is going to train on; the first batch is heard.
    """
    batch = next(iter(StepLoader(data.dataset, data.order, start=0, stop=1)))
    model = cast(Model, learner.model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        loss = float(learner.train().loss(batch.prepared())[0])
    chance = math.log(len(model.classes) if model.softmax else 2)
    if loss <= chance:
        return None
    return (
        f"augmented clips are strange to that head: its loss is {loss:.2f}, that of guessing "
        f"{chance:.2f}; smaller --freq-mask and --time-mask, or none, may learn better"
    )
