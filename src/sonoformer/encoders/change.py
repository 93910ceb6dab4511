"""The same weights under another configuration: strides, statistics, stochastic depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sonoformer.encoders.ast import AstEncoder
from sonoformer.errors import UserError


def with_config(encoder: AstEncoder, **changes: Any) -> AstEncoder:
    """A new encoder with the weights of `encoder` and some options changed.

    Raises:
        UserError: a change that the weights do not fit.
    """
    made = AstEncoder(replace(encoder.config, **changes))
    try:
        made.load_state_dict(encoder.state_dict())
    except RuntimeError as error:
        names = ", ".join(changes)
        raise UserError(f"{names}: the weights do not fit this change ({error})") from error
    return made.to(encoder.pos_embed.device).train(encoder.training)


def with_stride(encoder: AstEncoder, stride: tuple[int, int]) -> AstEncoder:
    """Overlapping (or sparser) patches; the table of positions is read at the new places."""
    return with_config(encoder, stride=stride)


def with_statistics(encoder: AstEncoder, mean: float, std: float) -> AstEncoder:
    """Another mean and standard deviation of the log-mel values."""
    return with_config(encoder, front=replace(encoder.config.front, mean=mean, std=std))
