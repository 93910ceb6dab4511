"""Light decoders: from the tokens that were seen to predictions of those that were hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.nn.blocks import Block
from sonoformer.nn.masks import Split
from sonoformer.nn.positions import sincos
from sonoformer.nn.subsets import gather, place


@dataclass(frozen=True)
class DecoderConfig:
    """What predicts the hidden tokens."""

    kind: Literal["transformer", "conv"] = "transformer"
    """transformer: blocks that attend to all tokens, as in MAE; conv: grouped convolutions over the
    grid of tokens, as in data2vec 2.0 and EAT."""
    width: int = 0
    """Width; 0 is half of the encoder's for a transformer, and the encoder's for convolutions."""
    depth: int = 2
    """Blocks or convolutions."""
    heads: int = 0
    """transformer: attention heads; 0 gives heads of 32 channels."""
    kernel: int = 3
    """conv: tokens along each side of a kernel."""
    groups: int = 16
    """conv: groups of channels."""

    def __post_init__(self) -> None:
        for name in ("width", "heads"):
            if getattr(self, name) < 0:
                raise UserError(f"decoder.{name}: must be at least 0; got {getattr(self, name)}")
        if self.depth < 1 or self.groups < 1:
            raise UserError("decoder: depth and groups must be at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"decoder.kernel: must be odd; got {self.kernel}")


class TransformerDecoder(nn.Module):
    """Blocks over all tokens of the grid, with a mask token at the hidden ones (MAE, section 3).

    Positions are sines and cosines, so that any grid can be decoded. Attention knows no order, so
    the hidden tokens simply come first, and the last block computes them alone.

    Args:
        dim: width of the encoder's tokens.
        out: numbers predicted a token.
        config: the options.
    """

    def __init__(self, dim: int, out: int, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width or max(32, dim // 2)
        heads = config.heads or max(1, width // 32)
        if width % heads or width % 4:
            raise UserError(
                f"decoder: width {width} must be a multiple of 4 and of its {heads} heads"
            )
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, out)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        _initialise(self)

    def forward(
        self, x: Tensor, prefix: int, split: Split, valid: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Predictions of the hidden tokens.

        Args:
            x: `(batch, prefix + visible, dim)`, the encoder's outputs.
            prefix: prefix tokens in front; they are attended to.
            split: which tokens the others are.
            valid: bool `(batch, tokens)`, real tokens.
            grid: counts `(freq, time)`.

        Returns:
            `(batch, hidden, out)`, in the order of `split.hidden.ids`.
        """
        x = self.embed(x)
        positions = sincos(grid, x.shape[-1], x.device).to(x.dtype)
        hidden = self.mask_token.to(x.dtype) + positions[split.hidden.ids]
        seen = x[:, prefix:] + positions[split.visible.ids]
        count = hidden.shape[1]
        x = torch.cat([hidden, seen, x[:, :prefix]], 1)
        mask = _attended(split, prefix)
        for number, block in enumerate(self.blocks, 1):
            x = block(x, mask, count if number == len(self.blocks) else None)
        return self.out(self.norm(x))


class ConvDecoder(nn.Module):
    """Grouped convolutions over the grid, each with a norm, GELU and a bypass (data2vec 2.0).

    Cells past a clip's end are held at zero, so padding looks like the border of the grid.

    Args:
        dim: width of the encoder's tokens.
        out: numbers predicted a token.
        config: the options.
    """

    def __init__(self, dim: int, out: int, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width or dim
        for name, channels in (("encoder's width", dim), ("decoder.width", width)):
            if channels % config.groups:
                raise UserError(
                    f"decoder.groups: {config.groups} does not divide the {name} {channels}"
                )
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.layers = nn.ModuleList(
            nn.Conv2d(
                dim if number == 0 else width,
                width,
                config.kernel,
                padding=config.kernel // 2,
                groups=config.groups,
            )
            for number in range(config.depth)
        )
        self.out = nn.Linear(width, out)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        _initialise(self)

    def forward(
        self, x: Tensor, prefix: int, split: Split, valid: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """As `TransformerDecoder`; the prefix tokens take no part."""
        x = place(x[:, prefix:], split.visible, grid[0] * grid[1], self.mask_token)
        real = None if _all(valid) else valid.unsqueeze(-1)
        for layer in self.layers:
            if real is not None:
                x = x * real
            new = layer(x.unflatten(1, grid).permute(0, 3, 1, 2))
            new = new.permute(0, 2, 3, 1).flatten(1, 2)
            new = F.gelu(F.layer_norm(new, new.shape[-1:]))
            x = x + new if new.shape == x.shape else new
        return self.out(gather(x, split.hidden.ids))


Decoder = TransformerDecoder | ConvDecoder


def make_decoder(dim: int, out: int, config: DecoderConfig) -> Decoder:
    """The decoder that the options ask for."""
    kind = TransformerDecoder if config.kind == "transformer" else ConvDecoder
    return kind(dim, out, config)


def _attended(split: Split, prefix: int) -> Tensor | None:
    hidden, visible = split.hidden.keep, split.visible.keep
    if _all(hidden) and _all(visible):
        return None
    keep = torch.cat([hidden, visible, visible.new_ones(len(visible), prefix)], 1)
    return keep[:, None, None, :]


def _all(flags: Tensor) -> bool:
    # As in the encoders: looking costs nothing on a CPU, and a wait on a device.
    return flags.device.type == "cpu" and bool(flags.all())


def _initialise(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
