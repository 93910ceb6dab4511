"""AST: the audio spectrogram transformer (Gong et al., Interspeech 2021; SSAST, AAAI 2022).

Spectrogram -> patches -> linear embedding + position -> 12 pre-norm transformer blocks -> tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sonoformer.encoders.patched import (
    PatchEncoder,
    Positions,
    all_valid,
    check_patches,
    token_shape,
)
from sonoformer.errors import UserError, nearest
from sonoformer.nn.blocks import Block
from sonoformer.nn.tokens import Pooling, Tokens
from sonoformer.spectral import FbankConfig


@dataclass(frozen=True)
class AstConfig:
    """Shape of an AST; the defaults are SSAST tiny with patch tokens."""

    dim: int = 192
    """Width of the tokens; a multiple of `heads`."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 3
    """Attention heads a block."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over `dim`."""
    patch: tuple[int, int] = (16, 16)
    """Bins and frames of a patch."""
    stride: tuple[int, int] = (16, 16)
    """Bins and frames from one patch to the next."""
    table: tuple[int, int] = (8, 64)
    """Grid (freq, time) of the learned position table."""
    table_stride: tuple[int, int] = (16, 16)
    """Stride at which the table was learned."""
    prefix: int = 2
    """Prefix tokens: cls, and dist with 2."""
    positions: Positions = "seconds"
    """How the table is read on other grids; see `nn.positions`."""
    drop_path: float = 0.0
    """Probability of leaving out a residual branch of the last block; rises linearly from 0."""
    norm_eps: float = 1e-6
    """Epsilon of the blocks' norms."""
    front: FbankConfig = FbankConfig()
    """The filterbank and its normalisation."""

    def __post_init__(self) -> None:
        check_patches(self)
        if self.dim % self.heads:
            raise UserError(f"heads: {self.heads} does not divide the width {self.dim}")
        if not 0 < self.mlp_ratio <= 1024 or round(self.dim * self.mlp_ratio) < 1:
            raise UserError(f"mlp_ratio: must be above 0 and at most 1024; got {self.mlp_ratio}")
        if not 0 < self.norm_eps < math.inf:
            raise UserError(f"norm_eps: must be above 0 and finite; got {self.norm_eps}")
        if self.prefix not in (1, 2):
            raise UserError(f"prefix: must be 1 (cls) or 2 (cls and dist); got {self.prefix}")


SIZES: dict[str, dict[str, Any]] = {
    "micro": {"dim": 128, "depth": 5, "heads": 2},
    "tiny": {"dim": 192, "depth": 12, "heads": 3},
    "small": {"dim": 384, "depth": 12, "heads": 6},
    "base": {"dim": 768, "depth": 12, "heads": 12},
}
"""Widths and depths by name; tiny, small and base are the papers' (SSAST section 2), micro has
about a million parameters."""


def ast_config(
    size: str = "tiny", tokens: Literal["patch", "frame"] = "patch", **changes: Any
) -> AstConfig:
    """The configuration of a size of `SIZES`, with tokens as in `patched.token_shape`.

    Raises:
        UserError: an unknown size.
    """
    if size not in SIZES:
        raise UserError(f"size {size!r}: must be one of {', '.join(SIZES)}.{nearest(size, SIZES)}")
    return AstConfig(**{**SIZES[size], **token_shape(tokens, **changes), **changes})


class AstEncoder(PatchEncoder):
    """Waveform or spectrogram -> `Tokens`; see `nn.tokens.Encoder` for the parts."""

    config: AstConfig

    def __init__(self, config: AstConfig = AstConfig()) -> None:
        super().__init__(config)
        rates = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio, rate, config.norm_eps)
            for rate in rates
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self._initialise()

    def encode(
        self,
        x: Tensor,
        valid: Tensor | None,
        grid: tuple[int, int],
        layers: Sequence[int] | None = None,
        start: int = 0,
    ) -> Tokens:
        """Embeddings -> tokens after the final norm, and the outputs of the blocks in `layers`.

        Args:
            x: `(batch, tokens, dim)` of `embed_patches`.
            valid: bool `(batch, tokens)`; invalid tokens are attended to by nobody.
            grid: counts `(freq, time)`.
            layers: blocks, counted from 0, whose outputs are wanted too.
            start: the first block to compute, see `PatchEncoder.encode`.
        """
        x, mask = (x, self._mask(valid)) if start else self._begin(x, valid)
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[start:], start):
            x = self.through(block, x, mask)
            if layers is not None and number in layers:
                kept[number] = x
        if valid is None:
            valid = x.new_ones(x.shape[0], x.shape[1] - self.config.prefix, dtype=torch.bool)
        outputs = tuple(kept[layer] for layer in layers or ())
        seconds = self.seconds_per_token
        return Tokens(self.norm(x), grid, self.config.prefix, valid, seconds, outputs)

    def pooled(
        self, audio: Tensor, lengths: Tensor | None = None, pool: Pooling = "mean"
    ) -> Tensor:
        """As `self(audio, lengths).pool(pool)`, without computing what that leaves unused.

        For `cls` the last block computes the prefix tokens alone, a twelfth less work at depth 12.
        """
        if pool != "cls":
            return self(audio, lengths).pool(pool)
        pixels, grid, valid = self._heard(audio, lengths)
        x, mask = self._begin(self.embed_patches(pixels, grid), valid)
        for block in self.blocks[:-1]:
            x = self.through(block, x, mask)
        return self.norm(self.through(self.blocks[-1], x, mask, self.config.prefix)).mean(1)

    def _begin(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Embeddings with the prefix tokens in front, and the mask of the blocks."""
        prefix = self._prefix().expand(x.shape[0], -1, -1)
        return torch.cat([prefix.to(x.dtype), x], 1), self._mask(valid)

    def _mask(self, valid: Tensor | None) -> Tensor | None:
        if valid is None or all_valid(valid):
            return None
        prefix = valid.new_ones(valid.shape[0], self.config.prefix)
        return torch.cat([prefix, valid], 1)[:, None, None, :]

    def _initialise(self) -> None:
        self._draw_tokens()
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
