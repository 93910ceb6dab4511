"""Encoders by name and size, with new weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from sonoformer.encoders.ast import ast_config
from sonoformer.encoders.checkpoint import encoder_of
from sonoformer.encoders.patched import PatchEncoder
from sonoformer.encoders.ssamba import ssamba_config
from sonoformer.encoders.ssamba2 import ssamba2_config

EncoderName = Literal["ast", "ssamba", "ssamba2", "ssamba-reference"]
SHAPES: dict[EncoderName, Callable[..., Any]] = {
    "ast": ast_config,
    "ssamba": ssamba_config,
    "ssamba2": ssamba2_config,
    "ssamba-reference": partial(ssamba_config, wiring="reference"),
}
"""Name -> its configuration by size, kind of tokens and changes."""


def new_encoder(config: Any) -> PatchEncoder:
    """An encoder of that shape with random weights."""
    made: PatchEncoder = encoder_of(config)(config)
    return made
