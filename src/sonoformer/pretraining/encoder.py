"""The encoder that a pretraining run trains: new, or a checkpoint's made to fit the run."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sonoformer.data.dataset import ClipDataset
from sonoformer.data.keys import key, numpy_generator
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.sources import ClipSource
from sonoformer.encoders import (
    SHAPES,
    PatchEncoder,
    new_encoder,
    with_config,
    with_statistics,
    with_table,
)
from sonoformer.errors import UserError
from sonoformer.nn.patches import grid_of
from sonoformer.nn.positions import covers
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.starting import starting_point
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig, RunningStatistics
from sonoformer.spectral.fixed import refuse_unheard

_AS_GIVEN = ("padding", "fixed_frames")
_IF_GIVEN = ("mean", "std", "level", "speed")


def make_encoder(
    config: PretrainConfig,
    source: ClipSource,
    seed: int,
    init: str | Path | None,
    run: Run,
) -> PatchEncoder:
    """The encoder before the first step, its normalisation measured if asked for.

    Args:
        config: the options.
        source: the sound that is trained on.
        seed: of the weights.
        init: a checkpoint to continue from (see `starting_point`).
        run: told what was measured, and what of the checkpoint was changed.

    Raises:
        UserError: the checkpoint cannot be read, or does not fit the options.
    """
    if init is None:
        torch.manual_seed(key(seed, "weights"))
        shape = SHAPES[config.encoder](config.size, config.tokens, front=config.front)
        shape = replace(shape, drop_path=config.drop_path)
        # As long as the clips: places past its end then read its last column (`nn.positions`),
        # where a longer table would hold what no clip has taught it.
        encoder = new_encoder(replace(shape, table=_grid(shape, shape.stride, config.crop)))
    else:
        encoder = starting_point(init)[0].train()
        front = _front(encoder.config.front, config, init, run)
        if front.rate != source.sample_rate:
            raise UserError(
                f"{init}: hears {front.sample_rate} Hz at speed {front.speed:g}; set "
                "front.sample_rate and front.speed to that"
            )
        encoder = with_config(encoder, front=front, drop_path=config.drop_path)
        encoder = _at_length(encoder, config.crop, run)
    if config.statistics == "keep":
        return encoder
    found = _measure(encoder, source, round(config.crop * source.sample_rate), seed)
    run.log(f"statistics of the log-mels: mean {found[0]:.4f}, std {found[1]:.4f}")
    return with_statistics(encoder, *found)


def _front(own: FbankConfig, config: PretrainConfig, init: str | Path, run: Run) -> FbankConfig:
    """A checkpoint's filterbank that pads and normalises as the options say."""
    given, plain = config.front, FbankConfig()
    changes: dict[str, Any] = {}
    for name in (field.name for field in fields(FbankConfig)):
        wanted, has = getattr(given, name), getattr(own, name)
        if wanted == has or (name not in _AS_GIVEN and wanted == getattr(plain, name)):
            continue
        if name not in _AS_GIVEN + _IF_GIVEN:
            raise UserError(
                f"front.{name}: {init} has learned with {has}, which cannot be {wanted} now; leave "
                "the option away, or start without the checkpoint"
            )
        changes[name] = wanted
        run.log(f"front end of the checkpoint: {name} {has} becomes {wanted}")
    front = replace(own, **changes)
    refuse_unheard(front, config.crop, "crop")
    return front


def _at_length(encoder: PatchEncoder, seconds: float, run: Run) -> PatchEncoder:
    """Patches side by side, and a position to learn for each of them in the longest clip.

    Overlapping patches, as of a fine-tuned AST, would let an encoder see parts of what is hidden
    from it in the patches beside.
    """
    shape = encoder.config
    stride = _larger(shape.stride, shape.patch)
    grid = _grid(shape, stride, seconds)
    known = [
        covers(*axis) for axis in zip(shape.table, shape.table_stride, grid, stride, strict=True)
    ]
    if stride != shape.stride:
        run.log(
            f"the checkpoint's patches overlap (stride {_by(shape.stride)}); pretraining takes "
            f"them side by side (stride {_by(stride)})"
        )
    elif all(known):
        return encoder
    # What the table knows of later places is kept for the longer clips of another day.
    old = [
        (cells - 1) * step // new + 1
        for cells, step, new in zip(shape.table, shape.table_stride, stride, strict=True)
    ]
    grid = _larger(grid, (old[0], old[1]))
    if (grid, stride) != (shape.table, shape.table_stride):
        how = "by place" if all(known) else "stretched, for the clips are longer than its span"
        run.log(
            f"the checkpoint's table of positions, {_by(shape.table)} at stride "
            f"{_by(shape.table_stride)}, becomes {_by(grid)} at stride {_by(stride)}: {how}"
        )
    return with_table(encoder, grid, stride)


def _grid(shape: Any, stride: tuple[int, int], seconds: float) -> tuple[int, int]:
    frames = shape.front.frames(round(seconds * shape.front.rate))
    return grid_of(shape.front.n_mels, frames, shape.patch, stride)


def _larger(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]} x {pair[1]}"


def _measure(
    encoder: PatchEncoder, source: ClipSource, crop: int, seed: int, clips: int = 1000
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
