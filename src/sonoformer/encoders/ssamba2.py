"""SSAMBA2, ours: SSAMBA with blocks on state-space duality (Dao & Gu 2024, Mamba-2).

All is as in `ssamba` but the mixer: one decay for each head instead of one for each channel and
state, so that the scan is made of matrix products. No published weights have this shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from sonoformer.encoders.patched import Positions, check_patches, token_shape
from sonoformer.encoders.ssamba import (
    SSAMBA_SIZES,
    Cls,
    Directions,
    SsambaEncoder,
    check_line,
)
from sonoformer.errors import UserError, nearest
from sonoformer.nn.duality import BiDual
from sonoformer.spectral import FbankConfig


@dataclass(frozen=True)
class Ssamba2Config:
    """Shape of an SSAMBA2; the defaults are the tiny size."""

    dim: int = 192
    """Width of the tokens."""
    depth: int = 24
    """Blocks."""
    states: int = 32
    """States of each head."""
    head_width: int = 64
    """Inner channels of a head; divides `expand` x `dim`."""
    expand: int = 2
    """Inner width over `dim`."""
    taps: int = 4
    """Tokens that the convolution before a scan reaches over."""
    directions: Directions = "both"
    """both: a token hears all others; forward: only those before it, which allows streaming."""
    cls: Cls = "first"
    """Where the cls token stands in the line of tokens."""
    patch: tuple[int, int] = (16, 16)
    """Bins and frames of a patch."""
    stride: tuple[int, int] = (16, 16)
    """Bins and frames from one patch to the next."""
    table: tuple[int, int] = (8, 64)
    """Grid (freq, time) of the learned position table."""
    table_stride: tuple[int, int] = (16, 16)
    """Stride at which the table was learned."""
    positions: Positions = "seconds"
    """How the table is read on other grids; see `nn.positions`."""
    drop_path: float = 0.0
    """Probability of leaving out the branch of the last block; rises linearly from 0."""
    norm_eps: float = 1e-5
    """Epsilon of the norms."""
    front: FbankConfig = FbankConfig()
    """The filterbank and its normalisation."""

    def __post_init__(self) -> None:
        check_patches(self)
        check_line(self)
        if not 1 <= self.states <= 1024 or not 1 <= self.expand <= 64 or not 1 <= self.taps <= 64:
            raise UserError("states must be from 1 to 1024, expand and taps from 1 to 64")
        if self.head_width < 1 or self.expand * self.dim % self.head_width:
            raise UserError(
                f"head_width: {self.head_width} does not divide the inner width "
                f"{self.expand * self.dim}"
            )

    @property
    def prefix(self) -> int:
        """Prefix tokens: cls."""
        return 1


def ssamba2_config(
    size: str = "tiny", tokens: Literal["patch", "frame"] = "patch", **changes: Any
) -> Ssamba2Config:
    """The configuration of a size of `SSAMBA_SIZES`, with tokens as in `ast_config`.

    Raises:
        UserError: an unknown size.
    """
    if size not in SSAMBA_SIZES:
        known = ", ".join(SSAMBA_SIZES)
        raise UserError(f"size {size!r}: must be one of {known}.{nearest(size, SSAMBA_SIZES)}")
    return Ssamba2Config(**{**SSAMBA_SIZES[size], **token_shape(tokens, **changes), **changes})


class Ssamba2Encoder(SsambaEncoder):
    """Waveform or spectrogram -> `Tokens`; the line of tokens is `SsambaEncoder`'s."""

    config: Ssamba2Config  # type: ignore[assignment]

    def __init__(self, config: Ssamba2Config = Ssamba2Config()) -> None:
        super().__init__(config)  # type: ignore[arg-type]

    def _mixer(self) -> nn.Module:
        config = self.config
        heads = config.expand * config.dim // config.head_width
        both = config.directions == "both"
        return BiDual(config.dim, config.states, heads, config.expand, config.taps, both)
