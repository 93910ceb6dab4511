"""The encoder that a fine-tuning starts from: a checkpoint's or new, fitted to the options."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sonoformer.data.dataset import ClipDataset
from sonoformer.data.keys import key
from sonoformer.data.loader import EvaluationLoader
from sonoformer.encoders import (
    SHAPES,
    PatchEncoder,
    load_encoder,
    new_encoder,
    with_config,
    with_statistics,
    with_stride,
    with_table,
)
from sonoformer.errors import UserError
from sonoformer.nn.patches import grid_of
from sonoformer.nn.positions import covers
from sonoformer.spectral import PRESETS, FbankConfig, RunningStatistics
from sonoformer.spectral.fixed import refuse_unheard
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig

Init = str | Path | nn.Module | None
# Clips on which the normalisation is measured, at most.
_MEASURED = 1000


def make_encoder(init: Init, config: FinetuneConfig, seed: int) -> PatchEncoder:
    """The encoder that training starts from; a given module is copied.

    Raises:
        UserError: the checkpoint cannot be read, or does not fit the options.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "weights"))
        if init is None:
            encoder = new_encoder(
                SHAPES[config.encoder](config.size, config.tokens, front=config.front)
            )
        else:
            if replace(config.front, speed=1.0) != FbankConfig():
                raise UserError(
                    "front: the checkpoint brings its own; leave these options away, front.speed "
                    "excepted"
                )
            found = copy.deepcopy(init) if isinstance(init, nn.Module) else load_encoder(init)
            encoder = cast(PatchEncoder, found)
            if config.fresh:
                encoder = new_encoder(encoder.config)
        if config.stride is not None:
            encoder = with_stride(encoder, config.stride)
        encoder = with_config(
            encoder,
            front=_front(encoder, config),
            positions=_chosen(config.positions, encoder.config.positions),
            drop_path=config.classifier.drop_path,
        )
        return _own_table(encoder, config).train()


def measured(
    encoder: PatchEncoder, clips: Clips, config: FinetuneConfig, seed: int
) -> PatchEncoder:
    """The encoder normalised by the mean and spread of the real frames of (some of) the clips."""
    rows = np.random.default_rng(key(seed, "statistics")).permutation(len(clips))[:_MEASURED]
    crop = round(config.seconds * encoder.sample_rate)
    dataset = ClipDataset(clips.source, crop=crop, seed=seed, train=False, crops=config.crops)
    running = RunningStatistics()
    with torch.no_grad():
        for batch in EvaluationLoader(dataset, 16, np.sort(rows)):
            running.update(*encoder.front_end.raw(batch.wave, batch.lengths))
    found = running.result()
    return with_statistics(encoder, found.mean, found.std)


def starting_encoder(init: Init, train: Clips, config: FinetuneConfig, seed: int) -> PatchEncoder:
    """As `make_encoder`, normalised as `statistics` says, on the training clips where measured."""
    encoder = make_encoder(init, config, seed)
    if config.statistics in PRESETS:
        return with_statistics(encoder, **PRESETS[config.statistics])
    if config.statistics == "measure" or (config.statistics == "auto" and init is None):
        return measured(encoder, train, config, seed)
    return encoder


def _front(encoder: PatchEncoder, config: FinetuneConfig) -> FbankConfig:
    own = encoder.config.front
    fixed = own.fixed_frames if config.fixed_frames is None else config.fixed_frames or None
    front = replace(
        own,
        level=_chosen(config.level, own.level),
        padding=_chosen(config.padding, own.padding),
        fixed_frames=fixed,
        speed=own.speed if config.front.speed == 1 else config.front.speed,
    )
    refuse_unheard(front, config.seconds, "seconds")
    return front


def _chosen(option: Any, own: Any) -> Any:
    return own if option == "checkpoint" else option


def _own_table(encoder: PatchEncoder, config: FinetuneConfig) -> PatchEncoder:
    """A table with a cell for each place of the new clips, where the encoder's own is too short.

    With the authors' rule it always has the size of the new clips.
    """
    shape, front = encoder.config, encoder.config.front
    if shape.positions == "seconds":
        frames = encoder.front_end.frames(round(config.seconds * encoder.sample_rate))
        freq, time = grid_of(front.n_mels, frames, shape.patch, shape.stride)
        if covers(shape.table[1], shape.table_stride[1], time, shape.stride[1]):
            return encoder
        # Tokens past the table's end would share one position, and none could be learned there.
        return with_table(encoder, (freq, time), rule="same")
    if config.positions != "reference" or front.fixed_frames is None:
        return encoder
    grid = grid_of(front.n_mels, front.fixed_frames, shape.patch, shape.stride)
    return with_table(encoder, grid, rule="reference")
