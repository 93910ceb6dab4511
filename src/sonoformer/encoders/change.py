"""The same weights under another configuration: strides, statistics, size of the table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch

from sonoformer.encoders.patched import PatchEncoder
from sonoformer.errors import UserError
from sonoformer.nn.positions import by_reference, resampled

_E = TypeVar("_E", bound=PatchEncoder)


def with_config(encoder: _E, **changes: Any) -> _E:
    """A new encoder with the weights of `encoder` and some options changed.

    Raises:
        UserError: a change that the weights do not fit.
    """
    made = type(encoder)(replace(encoder.config, **changes))
    try:
        made.load_state_dict(encoder.state_dict())
    except RuntimeError as error:
        names = ", ".join(changes)
        raise UserError(f"{names}: the weights do not fit this change ({error})") from error
    return made.to(encoder.pos_embed.device).train(encoder.training)


def with_stride(encoder: _E, stride: tuple[int, int]) -> _E:
    """Overlapping (or sparser) patches; the table of positions is read at the new places."""
    return with_config(encoder, stride=stride)


def with_statistics(encoder: _E, mean: float, std: float) -> _E:
    """Another mean and standard deviation of the log-mel values."""
    return with_config(encoder, front=replace(encoder.config.front, mean=mean, std=std))


def with_speed(encoder: _E, speed: float) -> _E:
    """Recordings played so many times as fast: pitch is multiplied, `sample_rate` divided.

    Raises:
        UserError: a speed at which the sample rate is no whole number.
    """
    return with_config(encoder, front=replace(encoder.config.front, speed=speed))


def with_table(
    encoder: _E,
    grid: tuple[int, int],
    stride: tuple[int, int] | None = None,
    rule: Literal["seconds", "reference", "same"] = "seconds",
) -> _E:
    """A new encoder whose learned table of positions has a cell for each token of `grid`.

    So that positions can be learned at a new length or stride. With other grids than this one the
    table is read as before, by the encoder's own rule (the configuration's `positions`).

    Args:
        encoder: the weights; left as they are.
        grid: counts `(freq, time)` of the new table.
        stride: bins and frames from one patch to the next, of the table and of the new encoder;
            the encoder's if absent.
        rule: how the new cells begin. seconds: with the position of their own Hz and seconds, or
            along an axis longer than the old table's with the old table stretched; reference: with
            what the authors' program makes of the old table (see `nn.positions`); same: with what
            the encoder reads at that grid today, so that nothing changes before training.
    """
    config = encoder.config
    stride = config.stride if stride is None else stride
    old = encoder.pos_embed.detach()
    table = old[0, config.prefix :].T.reshape(config.dim, *config.table)
    if rule == "reference":
        cells = by_reference(table, grid)
    elif rule == "same":
        cells = with_config(encoder, stride=stride).position_table(grid).detach()
    else:
        cells = resampled(table, grid, stride, config.table_stride).flatten(1).T
    made = type(encoder)(replace(config, stride=stride, table=grid, table_stride=stride))
    positions = torch.cat([old[:, : config.prefix], cells.unsqueeze(0)], 1)
    made.load_state_dict({**encoder.state_dict(), "pos_embed": positions})
    return made.to(old.device).train(encoder.training)
