"""AST: the audio spectrogram transformer (Gong et al., Interspeech 2021; SSAST, AAAI 2022).

Spectrogram -> patches -> linear embedding + position -> 12 pre-norm transformer blocks -> tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sonoformer.encoders.embedding import embed
from sonoformer.errors import UserError, nearest
from sonoformer.nn.blocks import Block
from sonoformer.nn.patches import PatchEmbed, cut, grid_of, valid_patches
from sonoformer.nn.positions import by_reference, by_seconds
from sonoformer.nn.tokens import Patches, Pooling, Tokens
from sonoformer.spectral import FbankConfig, FrontEnd
from sonoformer.spectral.fixed import refuse_unheard

Positions = Literal["seconds", "reference"]
_LARGEST = {"dim": 2**16, "depth": 2**10, "heads": 2**10}
"""Sizes that no file may ask for more than, however it is damaged."""


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
        if (
            min(
                self.dim,
                self.depth,
                self.heads,
                *self.patch,
                *self.stride,
                *self.table,
                *self.table_stride,
            )
            < 1
        ):
            raise UserError(
                "dim, depth, heads, patch, stride, table and table_stride must all be at least 1"
            )
        for name, most in _LARGEST.items():
            if getattr(self, name) > most:
                raise UserError(f"{name}: must be at most {most}; got {getattr(self, name)}")
        if max(*self.patch, *self.stride, *self.table, *self.table_stride) > 2**20:
            raise UserError("patch, stride and table must be at most 2^20 on each axis")
        if self.dim % self.heads:
            raise UserError(f"heads: {self.heads} does not divide the width {self.dim}")
        if not 0 < self.mlp_ratio <= 1024 or round(self.dim * self.mlp_ratio) < 1:
            raise UserError(f"mlp_ratio: must be above 0 and at most 1024; got {self.mlp_ratio}")
        if not 0 < self.norm_eps < math.inf:
            raise UserError(f"norm_eps: must be above 0 and finite; got {self.norm_eps}")
        if self.positions not in get_args(Positions):
            known = " or ".join(get_args(Positions))
            raise UserError(f"positions: must be {known}; got {self.positions!r}")
        if self.patch[0] > self.front.n_mels:
            raise UserError(
                f"patch: {self.patch[0]} bins are more than the front end's {self.front.n_mels}"
            )
        if self.prefix not in (1, 2):
            raise UserError(f"prefix: must be 1 (cls) or 2 (cls and dist); got {self.prefix}")
        if not 0 <= self.drop_path < 1:
            raise UserError(f"drop_path: must be at least 0 and below 1; got {self.drop_path}")


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
    """The configuration of a size of `SIZES` with 16x16 patches or 2-frame columns.

    Both token kinds have 256 pixels and, on 1024 frames of 128 bins, 512 tokens (SSAST section 3).
    The position table has a row for each row of patches of the front end.

    Raises:
        UserError: an unknown size.
    """
    if size not in SIZES:
        raise UserError(f"size {size!r}: must be one of {', '.join(SIZES)}.{nearest(size, SIZES)}")
    bins = changes.get("front", FbankConfig()).n_mels
    shape, columns = ((16, 16), 64) if tokens == "patch" else ((bins, 2), 512)
    table = (max(1, bins // shape[0]), columns)
    own = {"patch": shape, "stride": shape, "table": table, "table_stride": shape}
    return AstConfig(**{**SIZES[size], **own, **changes})


class AstEncoder(nn.Module):
    """Waveform or spectrogram -> `Tokens`; see `nn.tokens.Encoder` for the parts.

    The mask token and the pretext heads of SSAST belong to the objective, not to the encoder.
    """

    order_matters = True

    def __init__(self, config: AstConfig = AstConfig()) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front)
        self.patch_embed = PatchEmbed(config.dim, config.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        if config.prefix == 2:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        cells = config.table[0] * config.table[1]
        self.pos_embed = nn.Parameter(torch.zeros(1, config.prefix + cells, config.dim))
        rates = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio, rate, config.norm_eps)
            for rate in rates
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self._initialise()

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        return self.config.dim

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.config.depth

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        return self.config.front.sample_rate

    @property
    def seconds_per_token(self) -> float:
        """Time from one token to the next."""
        return self.config.stride[1] * self.config.front.hop_ms / 1000

    def front(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, samples)`, lengths in samples -> `(batch, frames, bins)`, lengths in frames."""
        return self.front_end(wave, lengths)

    def patches(self, spec: Tensor, lengths: Tensor | None = None) -> Patches:
        """`(batch, frames, bins)`, lengths in frames -> pixels, grid and valid mask."""
        patch, stride = self.config.patch, self.config.stride
        grid = grid_of(spec.shape[2], spec.shape[1], patch, stride)
        if lengths is None:
            lengths = torch.full((len(spec),), max(spec.shape[1], patch[1]), device=spec.device)
        valid = valid_patches(lengths.to(spec.device), grid, patch, stride)
        # A clip shorter than a patch is padded here as the front end pads it in a batch.
        return Patches(cut(spec, patch, stride, self.front_end.pad_value), grid, valid)

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
    ) -> Tokens:
        """Embeddings -> tokens after the final norm, and the outputs of the blocks in `layers`.

        Args:
            x: `(batch, tokens, dim)` of `embed_patches`.
            valid: bool `(batch, tokens)`; invalid tokens are attended to by nobody.
            grid: counts `(freq, time)`.
            layers: blocks, counted from 0, whose outputs are wanted too.
        """
        x, mask = self._begin(x, valid)
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            x = block(x, mask)
            if layers is not None and number in layers:
                kept[number] = x
        if valid is None:
            valid = x.new_ones(len(x), x.shape[1] - self.config.prefix, dtype=torch.bool)
        outputs = tuple(kept[layer] for layer in layers or ())
        seconds = self.seconds_per_token
        return Tokens(self.norm(x), grid, self.config.prefix, valid, seconds, outputs)

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
        spec, frames = (audio, lengths) if audio.ndim == 3 else self.front(audio, lengths)
        pixels, grid, valid = self.patches(spec, frames)
        return self.encode(self.embed_patches(pixels, grid), valid, grid, layers)

    def pooled(
        self, audio: Tensor, lengths: Tensor | None = None, pool: Pooling = "mean"
    ) -> Tensor:
        """As `self(audio, lengths).pool(pool)`, without computing what that leaves unused.

        For `cls` the last block computes the prefix tokens alone, a twelfth less work at depth 12.
        """
        if pool != "cls":
            return self(audio, lengths).pool(pool)
        spec, frames = (audio, lengths) if audio.ndim == 3 else self.front(audio, lengths)
        pixels, grid, valid = self.patches(spec, frames)
        x, mask = self._begin(self.embed_patches(pixels, grid), valid)
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.norm(self.blocks[-1](x, mask, self.config.prefix)).mean(1)

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

    def _begin(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Embeddings with the prefix tokens in front, and the mask of the blocks."""
        prefix = self._prefix().expand(len(x), -1, -1)
        return torch.cat([prefix.to(x.dtype), x], 1), self._mask(valid)

    def _prefix(self) -> Tensor:
        tokens: list[Tensor] = [self.cls_token]
        if self.config.prefix == 2:
            tokens.append(self.dist_token)
        return torch.cat(tokens, 1) + self.pos_embed[:, : self.config.prefix]

    def _mask(self, valid: Tensor | None) -> Tensor | None:
        # Looking at the mask costs a synchronisation on a device, and nothing on a CPU.
        if valid is None or (valid.device.type == "cpu" and bool(valid.all())):
            return None
        prefix = valid.new_ones(len(valid), self.config.prefix)
        return torch.cat([prefix, valid], 1)[:, None, None, :]

    def _initialise(self) -> None:
        for parameter in (self.cls_token, self.pos_embed, getattr(self, "dist_token", None)):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
