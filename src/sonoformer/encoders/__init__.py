"""Spectrogram -> tokens: the encoders, and loading and saving their weights."""

from sonoformer.encoders.ast import SIZES, AstConfig, AstEncoder, ast_config
from sonoformer.encoders.change import (
    with_config,
    with_speed,
    with_statistics,
    with_stride,
    with_table,
)
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
from sonoformer.encoders.shapes import SHAPES, EncoderName, new_encoder
from sonoformer.encoders.ssamba import (
    SSAMBA_SIZES,
    SsambaConfig,
    SsambaEncoder,
    ssamba_config,
)
from sonoformer.encoders.ssamba2 import Ssamba2Config, Ssamba2Encoder, ssamba2_config

__all__ = [
    "ENCODERS",
    "SHAPES",
    "SIZES",
    "SSAMBA_SIZES",
    "AstConfig",
    "AstEncoder",
    "EncoderName",
    "Hints",
    "PatchEncoder",
    "Published",
    "Ssamba2Config",
    "Ssamba2Encoder",
    "SsambaConfig",
    "SsambaEncoder",
    "ast_config",
    "find_checkpoint",
    "is_published",
    "load_encoder",
    "new_encoder",
    "read_encoder",
    "read_hints",
    "read_published",
    "save_encoder",
    "ssamba2_config",
    "ssamba_config",
    "with_config",
    "with_speed",
    "with_statistics",
    "with_stride",
    "with_table",
]
