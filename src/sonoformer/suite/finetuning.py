"""The fine-tuning column: the whole encoder trained on each task with one small recipe.

The recipe is `small` (mixing, masks, label smoothing, AdamW, batches of 16; lower rates for earlier
blocks of pretrained encoders) with the rate and epochs given; nothing is chosen on test clips.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from torch import nn

from sonoformer import recipes
from sonoformer.evaluation.metrics import Answers
from sonoformer.run import Run
from sonoformer.settings import build, merged, plain
from sonoformer.suite.config import FinetuneHead, SuiteConfig
from sonoformer.suite.lesson import Lesson
from sonoformer.suite.turns import Turn
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune


def recipe(
    config: SuiteConfig, metric: str, rate: float, head: FinetuneHead, *, pretrained: bool
) -> FinetuneConfig:
    """The options of each fine-tuning at a learning rate, for a task judged by `metric`."""
    train = {"epochs": config.finetune_epochs, "workers": 0, "optimiser": {"lr": rate}}
    adaptation: dict[str, float] = {}
    if not pretrained:
        adaptation["layer_decay"] = 1.0  # random weights have nothing to keep in earlier blocks
    mapping, source = recipes.load("small", None)
    mapping = merged(
        mapping,
        {
            "protocol": "split",
            # Copies of test clips are out already; groups may share a name with a test group.
            "leaks": "allow",
            "seconds": config.seconds,
            "level": config.level,
            "resamples": config.resamples,
            "sampling": "balanced" if metric == "balanced_accuracy" else "uniform",
            "classifier": {"head": head},
            "probe": plain(config.linear),
            "train": train,
            "adaptation": adaptation,
        },
    )
    return build(FinetuneConfig, merged(plain(FinetuneConfig()), mapping), source)


def finetune_turn(
    encoder: nn.Module,
    lesson: Lesson,
    turn: Turn,
    options: FinetuneConfig,
    folder: Path,
    *,
    seed: int,
    device: str,
    cache: Path,
    most: int | None = None,
) -> Answers:
    """Train on a turn's training clips and answer about its test clips.

    Args:
        encoder: what training starts from; it is left as it is.
        lesson, turn: the task.
        options: of `recipe`.
        folder: a run of its own; an interrupted one is continued.
        seed: of weights, order and augmentation.
        device: where to train.
        cache: folder of the packed sound.
        most: steps at most, where the passes would take more.
    """
    passes = options.train.epochs * len(turn.train) / options.train.batch_size
    if most is not None and passes > most:
        options = replace(options, train=replace(options.train, steps=most))
    part = np.full(len(lesson.clips), None, dtype=object)
    part[turn.train], part[turn.test] = "train", "test"
    rows = np.concatenate([turn.train, turn.test])
    manifest = lesson.clips.manifest
    table = manifest.table.with_columns(
        split=pl.Series(part.tolist(), dtype=pl.String), fold=pl.lit(None, pl.String)
    )
    again = Run.exists(folder)
    with Run.start(folder, "finetune", options, seed, resume=again) as run:
        run.echo = None
        found = finetune(
            replace(manifest, table=table[rows.tolist()], classes_given=lesson.classes),
            encoder,
            options,
            run,
            seed=seed,
            device=device,
            resume=again,
            cache=cache,
            bar=False,
        )
    answers = found.answers[0]
    order = {name: i for i, name in enumerate(answers.clips)}
    names = [lesson.clips.names[row] for row in turn.test]
    return lesson.answers(turn, answers.scores[[order[name] for name in names]])
