"""Spectrogram -> tokens: the encoders, and loading and saving their weights."""

from sonoformer.encoders.ast import SIZES, AstConfig, AstEncoder, ast_config
from sonoformer.encoders.change import with_config, with_statistics, with_stride
from sonoformer.encoders.checkpoint import (
    ENCODERS,
    build_encoder,
    find_checkpoint,
    read_encoder,
    save_encoder,
)
from sonoformer.encoders.load import load_encoder

__all__ = [
    "ENCODERS",
    "SIZES",
    "AstConfig",
    "AstEncoder",
    "ast_config",
    "build_encoder",
    "find_checkpoint",
    "load_encoder",
    "read_encoder",
    "save_encoder",
    "with_config",
    "with_statistics",
    "with_stride",
]
