"""What an encoder gives: tokens on a time-frequency grid, and the protocol that gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

Pooling = Literal["mean", "cls", "bands", "bands_std"]


class Patches(NamedTuple):
    """Spectrogram patches before embedding.

    Attributes:
        pixels: `(batch, tokens, pixels)`, frequency-major inside a patch.
        grid: `(freq, time)` counts; token id = `f * time + t` (frequency-major).
        valid: bool `(batch, tokens)`; true where every frame of the patch is real.
    """

    pixels: Tensor
    grid: tuple[int, int]
    valid: Tensor


@dataclass
class Tokens:
    """Encoder output.

    Attributes:
        x: `(batch, prefix + tokens, dim)`; prefix tokens (cls, dist) come first.
        grid: `(freq, time)` counts of the whole grid; token id = `f * time + t`.
        prefix: number of prefix tokens.
        valid: bool `(batch, tokens)`; tokens made of real frames only.
        seconds_per_token: time step of the grid.
        layers: outputs of the blocks that were asked for, each shaped as `x`, without final norm.
    """

    x: Tensor
    grid: tuple[int, int]
    prefix: int
    valid: Tensor
    seconds_per_token: float
    layers: tuple[Tensor, ...] = ()

    def pool(self, mode: Pooling = "mean") -> Tensor:
        """One vector a clip.

        `mean`, `(batch, dim)`, averages the valid patch tokens (SSAST `ft_avgtok`); `cls`, of the
        same shape, averages the prefix tokens (AST section 2.1, SSAST `ft_cls`). `bands`,
        `(batch, freq x dim)`, averages over time alone, so that each frequency row speaks for
        itself; `bands_std`, `(batch, 2 x freq x dim)`, adds the standard deviation over time.
        """
        if mode == "cls":
            return self.x[:, : self.prefix].mean(1)
        weight = self.valid.to(self.x.dtype).unsqueeze(-1)
        x = self.x[:, self.prefix :]
        if mode == "mean":
            return (x * weight).sum(1) / weight.sum(1).clamp_min(1)
        x, weight = (t.reshape(t.shape[0], *self.grid, t.shape[-1]) for t in (x, weight))
        count = weight.sum(2).clamp_min(1)
        mean = (x * weight).sum(2) / count
        if mode == "bands":
            return mean.flatten(1)
        spread = ((x - mean.unsqueeze(2)).square() * weight).sum(2) / count
        # The root of zero has no gradient, and a clip of one column has no spread.
        return torch.cat([mean, (spread + 1e-6).sqrt()], 1).flatten(1)

    def framewise(self) -> Tensor:
        """The patch tokens as `(batch, time, freq, dim)`."""
        batch, _, dim = self.x.shape
        freq, time = self.grid
        return self.x[:, self.prefix :].reshape(batch, freq, time, dim).transpose(1, 2)

    def valid_frames(self) -> Tensor:
        """Bool `(batch, time)`: token columns made of real frames only."""
        return self.valid.reshape(-1, *self.grid)[:, 0]


@runtime_checkable
class Encoder(Protocol):
    """What objectives, adapters, heads and exporters may use of an encoder; nothing else."""

    config: Any

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        ...

    @property
    def depth(self) -> int:
        """Number of blocks."""
        ...

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        ...

    @property
    def seconds_per_token(self) -> float:
        """Time from one token to the next."""
        ...

    @property
    def order_matters(self) -> bool:
        """Whether the tokens' order in memory carries meaning, as for a recurrent encoder."""
        ...

    def front(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, samples)`, lengths in samples -> `(batch, frames, bins)`, lengths in frames."""
        ...

    def patches(self, spec: Tensor, lengths: Tensor | None = None) -> Patches:
        """`(batch, frames, bins)`, lengths in frames -> pixels, grid and valid mask."""
        ...

    def embed_patches(
        self,
        pixels: Tensor,
        grid: tuple[int, int],
        index: Tensor | None = None,
        replace: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Pixels -> embeddings with position added by original token id.

        `index` `(batch, kept)` holds the ids of the pixels when tokens were dropped. `replace` is a
        bool mask `(batch, tokens)` and a vector `(dim,)` that takes the place of the masked
        embeddings before the position is added.
        """
        ...

    def encode(
        self,
        x: Tensor,
        valid: Tensor | None,
        grid: tuple[int, int],
        layers: Sequence[int] | None = None,
        start: int = 0,
    ) -> Tokens:
        """Embeddings `(batch, tokens, dim)` -> `Tokens`; prefix tokens are added here.

        With a `start` above 0 blocks before it are left out, and `x` `(batch, prefix + tokens,
        dim)` is what they gave.
        """
        ...

    def pooled(
        self, audio: Tensor, lengths: Tensor | None = None, pool: Pooling = "mean"
    ) -> Tensor:
        """`(batch, dim)`: as `self(audio, lengths).pool(pool)`, without unneeded work."""
        ...

    def __call__(
        self, audio: Tensor, lengths: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Tokens:
        """Waveform `(batch, samples)` or spectrogram `(batch, frames, bins)` -> `Tokens`."""
        ...
