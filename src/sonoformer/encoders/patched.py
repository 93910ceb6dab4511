"""What encoders of spectrogram patches share: hearing, patches, embedding and positions.

What follows the embeddings, the prefix tokens and the blocks, is each encoder's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sonoformer.encoders.embedding import embed
from sonoformer.encoders.fronted import Fronted
from sonoformer.errors import UserError
from sonoformer.nn.patches import PatchEmbed, cut
from sonoformer.nn.positions import by_reference, by_seconds
from sonoformer.nn.tokens import Patches, Pooling, Tokens
from sonoformer.spectral import FbankConfig
from sonoformer.spectral.fixed import refuse_unheard

Positions = Literal["seconds", "reference"]
_LARGEST = {"dim": 2**16, "depth": 2**10, "heads": 2**10}
"""Sizes that no file may ask for more than, however it is damaged."""


def check_patches(config: Any) -> None:
    """What has to hold for every configuration of an encoder of patches.

    Raises:
        UserError: sizes below 1 or absurdly large, an unknown rule, or too high a patch.
    """
    sizes = [getattr(config, name) for name in _LARGEST if hasattr(config, name)]
    pairs = (*config.patch, *config.stride, *config.table, *config.table_stride)
    if min(*sizes, *pairs) < 1:
        names = ", ".join(name for name in _LARGEST if hasattr(config, name))
        raise UserError(f"{names}, patch, stride, table and table_stride must all be at least 1")
    for name, most in _LARGEST.items():
        if getattr(config, name, 0) > most:
            raise UserError(f"{name}: must be at most {most}; got {getattr(config, name)}")
    if max(pairs) > 2**20:
        raise UserError("patch, stride and table must be at most 2^20 on each axis")
    if config.positions not in get_args(Positions):
        known = " or ".join(get_args(Positions))
        raise UserError(f"positions: must be {known}; got {config.positions!r}")
    if config.patch[0] > config.front.n_mels:
        raise UserError(
            f"patch: {config.patch[0]} bins are more than the front end's {config.front.n_mels}"
        )
    if not 0 <= config.drop_path < 1:
        raise UserError(f"drop_path: must be at least 0 and below 1; got {config.drop_path}")


def token_shape(tokens: Literal["patch", "frame"], **changes: Any) -> dict[str, Any]:
    """Patch, stride and table of 16x16 patches or 2-frame columns; `changes` may name `front`.

    Both token kinds have 256 pixels and, on 1024 frames of 128 bins, 512 tokens (SSAST section 3).
    The position table has a row for each row of patches of the front end.
    """
    bins = changes.get("front", FbankConfig()).n_mels
    shape, columns = ((16, 16), 64) if tokens == "patch" else ((bins, 2), 512)
    table = (max(1, bins // shape[0]), columns)
    return {"patch": shape, "stride": shape, "table": table, "table_stride": shape}


class PatchEncoder(Fronted):
    """Waveform or spectrogram -> embedded patches; see `nn.tokens.Encoder` for the parts.

    A subclass makes `blocks` and `norm`, and turns embeddings into tokens (`encode`). A mask token
    and pretext heads belong to an objective, not to an encoder.

    Args:
        config: has `dim`, `patch`, `stride`, `table`, `table_stride`, `positions`, `prefix` and
            `front`, as `AstConfig`.

    Attributes:
        checkpointing: keep only what enters each block for the backward pass, and compute the rest
            again there (Chen et al. 2016); the gradients are the same.
    """

    order_matters = True
    checkpointing = False
    blocks: nn.ModuleList
    norm: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(config.dim, config.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        if config.prefix == 2:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        cells = config.table[0] * config.table[1]
        self.pos_embed = nn.Parameter(torch.zeros(1, config.prefix + cells, config.dim))

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        return int(self.config.dim)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def patches(self, spec: Tensor, lengths: Tensor | None = None) -> Patches:
        """`(batch, frames, bins)`, lengths in frames -> pixels, grid and valid mask."""
        grid, valid = self.tokens_of(spec, lengths)
        # A clip shorter than a patch is padded here as the front end pads it in a batch.
        pixels = cut(spec, self.config.patch, self.config.stride, self.front_end.pad_value)
        return Patches(pixels, grid, valid)

    def embed_patches(
        self,
        pixels: Tensor,
        grid: tuple[int, int],
        index: Tensor | None = None,
        replace: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Pixels `(batch, tokens, pixels)` -> embeddings with position `(batch, tokens, dim)`.

        Args:
            pixels: the patches.
            grid: counts `(freq, time)` of the whole grid.
            index: `(batch, kept)` token ids of `pixels` when tokens were dropped; all otherwise.
            replace: bool mask `(batch, tokens)` and a vector `(dim,)` that takes the place of the
                masked embeddings, before the position is added (SSAST section 3).
        """
        x = self.patch_embed(pixels)
        if replace is not None:
            mask, token = replace
            x = torch.where(mask.unsqueeze(-1), token.to(x.dtype), x)
        position = self.position_table(grid)
        return x + (position if index is None else position[index])

    def position_table(self, grid: tuple[int, int]) -> Tensor:
        """Positions of the tokens of a grid `(freq, time)`, without the prefix: `(tokens, dim)`."""
        config = self.config
        table = self.pos_embed[0, config.prefix :].T.reshape(config.dim, *config.table)
        if config.positions == "reference":
            return by_reference(table, grid)
        return by_seconds(table, grid, config.stride, config.table_stride)

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
            valid: bool `(batch, tokens)`; tokens that are not valid are heard by no other.
            grid: counts `(freq, time)`.
            layers: blocks, counted from 0, whose outputs are wanted too.
            start: the first block to compute; from 1 on `x` is what the block before it gave,
                `(batch, prefix + tokens, dim)` as in `Tokens.layers`.
        """
        raise NotImplementedError

    def through(self, block: nn.Module, x: Tensor, mask: Tensor | None, *rest: int) -> Tensor:
        """The output of a block, called as such; computed again in the backward pass where
        `checkpointing` asks for it, or where there is too much to keep."""
        if torch.is_grad_enabled() and (self.checkpointing or self._too_much_to_keep(x)):
            return checkpoint(block, x, mask, *rest, use_reentrant=False)
        return block(x, mask, *rest)

    def _too_much_to_keep(self, x: Tensor) -> bool:
        """Whether blocks are better computed again in the backward pass, even unasked."""
        return False

    def forward(
        self, audio: Tensor, lengths: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Tokens:
        """Waveform `(batch, samples)` or spectrogram `(batch, frames, bins)` -> `Tokens`.

        `lengths` counts samples or frames, as `audio` does.
        """
        if audio.ndim not in (2, 3):
            raise ValueError(
                f"audio should be (batch, samples) or (batch, frames, bins); got {audio.shape}"
            )
        pixels, grid, valid = self._heard(audio, lengths)
        return self.encode(self.embed_patches(pixels, grid), valid, grid, layers)

    def pooled(
        self, audio: Tensor, lengths: Tensor | None = None, pool: Pooling = "mean"
    ) -> Tensor:
        """As `self(audio, lengths).pool(pool)`, without computing what that leaves unused."""
        return self(audio, lengths).pool(pool)

    def embed(
        self,
        audio: Tensor | str | Path,
        window: float = 10.0,
        hop: float | None = None,
        pool: Pooling = "mean",
    ) -> Tensor:
        """`(windows, dim)` features of a waveform or a recording; see `encoders.embedding`."""
        refuse_unheard(self.config.front, window, "window")
        return embed(self, audio, window, hop, pool, self.pos_embed.device)

    def _heard(self, audio: Tensor, lengths: Tensor | None) -> Patches:
        """The patches of waveforms or spectrograms."""
        return self.patches(*((audio, lengths) if audio.ndim == 3 else self.front(audio, lengths)))

    def _prefix(self) -> Tensor:
        """The prefix tokens with their positions, `(1, prefix, dim)`."""
        tokens: list[Tensor] = [self.cls_token]
        if self.config.prefix == 2:
            tokens.append(self.dist_token)
        return torch.cat(tokens, 1) + self.pos_embed[:, : self.config.prefix]

    def _draw_tokens(self) -> None:
        """First values of prefix tokens and positions."""
        for parameter in (self.cls_token, self.pos_embed, getattr(self, "dist_token", None)):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)


def all_valid(valid: Tensor | None) -> bool:
    """Whether it is known, without waiting for a device, that nothing is padding."""
    return valid is None or (valid.device.type == "cpu" and bool(valid.all()))
