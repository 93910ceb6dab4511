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
from sonoformer.encoders.patched import PatchEncoder
from sonoformer.encoders.published import Hints, Published
from sonoformer.encoders.ssamba import (
    SSAMBA_SIZES,
    SsambaConfig,
    SsambaEncoder,
    ssamba_config,
)

__all__ = [
    "ENCODERS",
    "SIZES",
    "SSAMBA_SIZES",
    "AstConfig",
    "AstEncoder",
    "Hints",
    "PatchEncoder",
    "Published",
    "SsambaConfig",
    "SsambaEncoder",
    "ast_config",
    "find_checkpoint",
    "is_published",
    "load_encoder",
    "read_encoder",
    "read_hints",
    "read_published",
    "save_encoder",
    "ssamba_config",
    "with_config",
    "with_statistics",
    "with_stride",
    "with_table",
]
