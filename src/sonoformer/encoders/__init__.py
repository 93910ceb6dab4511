"""Spectrogram -> tokens: the encoders, and loading and saving their weights."""

from sonoformer.encoders.ast import SIZES, AstConfig, AstEncoder, ast_config
from sonoformer.encoders.change import with_config, with_statistics, with_stride, with_table
from sonoformer.encoders.checkpoint import (
    ENCODERS,
    find_checkpoint,
    read_encoder,
    save_encoder,
)
from sonoformer.encoders.foreign import is_published, read_published
from sonoformer.encoders.load import load_encoder, read_hints
from sonoformer.encoders.published import Hints, Published

__all__ = [
    "ENCODERS",
    "SIZES",
    "AstConfig",
    "AstEncoder",
    "Hints",
    "Published",
    "ast_config",
    "find_checkpoint",
    "is_published",
    "load_encoder",
    "read_encoder",
    "read_hints",
    "read_published",
    "save_encoder",
    "with_config",
    "with_statistics",
    "with_stride",
    "with_table",
]
