"""SSAMBA: an audio encoder of state-space blocks (Shams et al., SLT 2024).

Spectrogram -> patches -> linear embedding + position -> a line of tokens, band by band, each band
along time -> bidirectional Mamba blocks -> tokens. Time and memory grow with the number of tokens,
where attention's time grows with its square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
from sonoformer.nn.mamba import BiMamba, MambaBlock, Pair, eager_on_cpu
from sonoformer.nn.subsets import gather
from sonoformer.nn.tokens import Tokens
from sonoformer.spectral import FbankConfig

Cls = Literal["first", "middle", "last"]
Wiring = Literal["sequential", "reference"]
Directions = Literal["both", "forward"]

_MANY = 8192
"""Tokens of a batch from which blocks are computed again in the backward pass on a CPU: what they
would keep is gigabytes, which take about as long to write and read as to compute."""


def check_line(config: Any) -> None:
    """The options of every state-space encoder that say how its line of tokens runs.

    Raises:
        UserError: an unknown choice.
    """
    if config.cls not in get_args(Cls):
        raise UserError(f"cls: must be one of {', '.join(get_args(Cls))}; got {config.cls!r}")
    if config.directions not in get_args(Directions):
        raise UserError(f"directions: must be both or forward; got {config.directions!r}")
    if not 0 < config.norm_eps < math.inf:
        raise UserError(f"norm_eps: must be above 0 and finite; got {config.norm_eps}")


@dataclass(frozen=True)
class SsambaConfig:
    """Shape of an SSAMBA; the defaults are its tiny size, wired as a residual network should be."""

    dim: int = 192
    """Width of the tokens."""
    depth: int = 24
    """Mamba blocks."""
    states: int = 16
    """States of each inner channel."""
    expand: int = 2
    """Inner width over `dim`."""
    taps: int = 4
    """Tokens that the convolution before a scan reaches over."""
    directions: Directions = "both"
    """both: a token hears all others; forward: only those before it, which allows streaming."""
    cls: Cls = "first"
    """Where the cls token stands in the line of tokens: first in the published weights; middle,
    Vision Mamba's choice; last, where a forward encoder has heard everything."""
    wiring: Wiring = "sequential"
    """sequential: block after block, one final norm; reference: the authors' pairs (see
    `nn.mamba.Pair`) and the final norm twice, which their published weights need."""
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
        if self.wiring not in get_args(Wiring):
            raise UserError(f"wiring: must be sequential or reference; got {self.wiring!r}")
        if self.wiring == "reference" and (self.depth % 2 or self.directions != "both"):
            raise UserError("wiring: reference needs an even depth and both directions")

    @property
    def prefix(self) -> int:
        """Prefix tokens: cls."""
        return 1

    @property
    def rank(self) -> int:
        """Width in which step sizes are chosen."""
        return math.ceil(self.dim / 16)


SSAMBA_SIZES: dict[str, dict[str, Any]] = {
    "micro": {"dim": 128, "depth": 8},
    "tiny": {"dim": 192, "depth": 24},
    "small": {"dim": 384, "depth": 24},
    "base": {"dim": 768, "depth": 24},
}
"""Widths and depths by name; tiny, small and base are the paper's, micro has about a million
parameters."""


def ssamba_config(
    size: str = "tiny", tokens: Literal["patch", "frame"] = "patch", **changes: Any
) -> SsambaConfig:
    """The configuration of a size of `SSAMBA_SIZES`, with tokens as in `ast_config`.

    Raises:
        UserError: an unknown size.
    """
    if size not in SSAMBA_SIZES:
        known = ", ".join(SSAMBA_SIZES)
        raise UserError(f"size {size!r}: must be one of {known}.{nearest(size, SSAMBA_SIZES)}")
    return SsambaConfig(**{**SSAMBA_SIZES[size], **token_shape(tokens, **changes), **changes})


class SsambaEncoder(PatchEncoder):
    """Waveform or spectrogram -> `Tokens`; see `nn.tokens.Encoder` for the parts.

    Padding changes nothing: before the blocks each clip's valid tokens move up, so that bands that
    end in padding follow each other as they do in the clip alone.
    """

    config: SsambaConfig

    def __init__(self, config: SsambaConfig = SsambaConfig()) -> None:
        super().__init__(config)
        rates = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        blocks = [MambaBlock(config.dim, self._mixer, rate, config.norm_eps) for rate in rates]
        self.twice = getattr(config, "wiring", "sequential") == "reference"
        if self.twice:
            both = zip(blocks[::2], blocks[1::2], strict=True)
            self.blocks = nn.ModuleList(Pair(one, other) for one, other in both)
        else:
            self.blocks = nn.ModuleList(blocks)
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
            x: `(batch, tokens, dim)` of `embed_patches`, in the order of their ids.
            valid: bool `(batch, tokens)`; the others are passed over.
            grid: counts `(freq, time)`.
            layers: blocks (pairs with the reference wiring), counted from 0, whose outputs are
                wanted too.
            start: the first block (or pair) to compute, see `PatchEncoder.encode`.

        Raises:
            ValueError: there are no tokens.
        """
        if not x.shape[1]:
            raise ValueError("a clip without any patches has no tokens to encode")
        if not start:
            x = torch.cat([self._prefix().expand(x.shape[0], -1, -1).to(x.dtype), x], 1)
        real = valid
        if real is None:
            real = torch.ones(x.shape[0], x.shape[1] - 1, dtype=torch.bool, device=x.device)
        x, line, back = self._line_up(x, valid)
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[start:], start):
            x = self.through(block, x, line)
            if layers is not None and number in layers:
                kept[number] = x if back is None else gather(x, back)
        x = self.norm(self.norm(x)) if self.twice else self.norm(x)
        x = x if back is None else gather(x, back)
        outputs = tuple(kept[layer] for layer in layers or ())
        return Tokens(x, grid, self.config.prefix, real, self.seconds_per_token, outputs)

    def _too_much_to_keep(self, x: Tensor) -> bool:
        return x.shape[0] * x.shape[1] >= _MANY and eager_on_cpu(x)

    def _line_up(
        self, x: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The line that the blocks see, its valid mask, and where each token went.

        Args:
            x: `(batch, 1 + tokens, dim)`, cls first.
            valid: bool `(batch, tokens)`.

        Returns:
            `(batch, 1 + tokens, dim)`: valid tokens and cls, then the others; bool of the same
            length, None if all are valid; ids that put cls first and the rest in its old order,
            None if it is there already.
        """
        some = None if all_valid(valid) else valid
        if some is None and self.config.cls == "first":
            return x, None, None
        real = torch.ones_like(x[:, 1:, 0], dtype=torch.bool) if some is None else some
        count = real.sum(1, keepdim=True)
        before = {"first": 0 * count, "middle": count // 2, "last": count}[self.config.cls]
        # Doubled, so that cls fits in between.
        rank = 2 * (real.cumsum(1) - 1).masked_fill(~real, x.shape[1])
        order = torch.cat([2 * before - 1, rank], 1).argsort(dim=1, stable=True)
        line = None
        if some is not None:
            line = torch.arange(x.shape[1], device=x.device) <= count
        return gather(x, order), line, order.argsort(dim=1)

    def _mixer(self) -> nn.Module:
        """A new mixer of a block."""
        config = self.config
        both = config.directions == "both"
        return BiMamba(config.dim, config.states, config.expand, config.taps, config.rank, both)

    def _initialise(self) -> None:
        self._draw_tokens()
        for name, module in self.blocks.named_modules():
            # Each block adds to the stream; so many of them would make it grow (Vision Mamba).
            if name.endswith("out_proj"):
                assert isinstance(module, nn.Linear)
                with torch.no_grad():
                    module.weight.div_(math.sqrt(self.config.depth))
