"""Tokens -> logits of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.evaluation.features import pooled
from sonoformer.nn.heads import ClassifierHead
from sonoformer.nn.tokens import Pooling, Tokens
from sonoformer.tasks.detection.heads import FrameHead, FrameKind

FrameName = Literal["frames_mean", "frames_concat", "frames_full"]


@dataclass(frozen=True)
class HeadConfig:
    """What turns tokens into scores of classes; saved with the weights."""

    kind: Literal["norm_linear", "linear", "weighted"] | FrameName = "norm_linear"
    """norm_linear: LayerNorm and a linear layer (AST, SSAST); linear: a probe's weights; weighted:
    a learned mix of all blocks, as the SUPERB benchmark has it; frames_...: a detector's, with
    scores for every token column."""
    pool: Pooling = "mean"
    """Which tokens are averaged; see `Tokens.pool`."""
    layers: tuple[int, ...] | None = None
    """Blocks, from 0, whose outputs are pooled; the final norm's output if absent."""
    single: bool = True
    """Exactly one class a clip."""
    softmax: bool = True
    """Scores sum to 1 over the classes; else each class has its own sigmoid."""
    norm_eps: float = 1e-5
    """norm_linear: epsilon of its norm; 1e-5 in the AST and SSAST programs."""
    attention: bool = False
    """frames_...: columns are weighed for the score of a whole clip; else the highest counts."""

    def __post_init__(self) -> None:
        if self.frames is None and self.attention:
            raise UserError("attention: is for detectors, whose heads are called frames_...")
        if self.frames is not None and (self.single or self.softmax):
            raise UserError("single, softmax: a detector's classes each have their own sigmoid.")
        if self.kind == "weighted" and (self.layers is not None or self.pool != "mean"):
            raise UserError("layers, pool: the weighted head takes all blocks and all tokens.")
        if not 0 < self.norm_eps < 1:
            raise UserError(f"norm_eps: must be above 0 and below 1; got {self.norm_eps}.")

    @property
    def frames(self) -> FrameKind | None:
        """The kind of a detector's head; None for heads of whole clips."""
        kind = self.kind.removeprefix("frames_")
        return None if kind == self.kind else cast(FrameKind, kind)


class PooledHead(nn.Module):
    """Tokens pooled to one vector, then a small network; its weights have the network's names."""

    def __init__(self, network: nn.Sequential | nn.Linear, pool: Pooling) -> None:
        super().__init__()
        self.network, self.pool = network, pool

    def forward(self, tokens: Tokens) -> Tensor:
        """`Tokens` -> logits `(batch, classes)`."""
        return self.network(pooled(tokens, self.pool))


class WeightedHead(nn.Module):
    """SUPERB's downstream model (Yang et al. 2021; s3prl's utterance-level classifier).

    A softmax-weighted sum of the outputs of all blocks, without the encoder's final norm and with
    its prefix tokens; a projection; the mean over tokens; a linear layer.

    Args:
        depth: blocks of the encoder.
        dim: width of its tokens.
        classes: number of outputs.
        width: of the projection.
    """

    def __init__(self, depth: int, dim: int, classes: int, width: int = 256) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(depth))
        self.projector = nn.Linear(dim, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, tokens: Tokens) -> Tensor:
        """`Tokens` with the outputs of all blocks -> logits `(batch, classes)`."""
        share = self.weights.softmax(0)
        mixed = torch.stack([w * x for w, x in zip(share, tokens.layers, strict=True)]).sum(0)
        prefix = tokens.valid.new_ones(mixed.shape[0], tokens.prefix)
        real = torch.cat([prefix, tokens.valid], 1).unsqueeze(-1)
        projected = self.projector(mixed).masked_fill(~real, 0)
        return self.classifier(projected.sum(1) / real.sum(1))


def build_head(encoder: nn.Module, classes: int, config: HeadConfig) -> nn.Module:
    """A fresh head for an encoder.

    Raises:
        UserError: `layers` names a block that the encoder does not have.
    """
    depth = int(encoder.depth)  # type: ignore[arg-type]
    wrong = [layer for layer in config.layers or () if not 0 <= layer < depth]
    if wrong or config.layers == ():
        raise UserError(f"layers: the encoder has blocks 0 to {depth - 1}; got {config.layers}.")
    if config.kind == "weighted":
        return WeightedHead(depth, int(encoder.dim), classes)  # type: ignore[arg-type]
    if config.frames is not None:
        width = int(encoder.dim) * len(config.layers or (0,))  # type: ignore[arg-type]
        return FrameHead(width, token_rows(encoder), classes, config.frames, config.attention)
    dim = pooled_width(encoder, config.pool, config.layers)
    if config.kind == "linear":
        return PooledHead(nn.Linear(dim, classes), config.pool)
    return PooledHead(ClassifierHead(dim, classes, config.norm_eps), config.pool)


def pooled_width(encoder: nn.Module, pool: Pooling, layers: Sequence[int] | None) -> int:
    """Numbers in a pooled vector."""
    width = int(encoder.dim) * len(layers or (0,))  # type: ignore[arg-type]
    if pool in ("mean", "cls"):
        return width
    return width * token_rows(encoder) * (2 if pool == "bands_std" else 1)


def token_rows(encoder: nn.Module) -> int:
    """Rows of the encoder's grid, counted on a moment of silence."""
    device = next(encoder.parameters()).device
    silence = torch.zeros(1, int(encoder.sample_rate) // 10, device=device)  # type: ignore[arg-type]
    with torch.no_grad():
        spec, frames = encoder.front(silence)  # type: ignore[operator]
        return int(encoder.patches(spec, frames).grid[0])  # type: ignore[operator]


def wanted_layers(encoder: nn.Module, config: HeadConfig) -> tuple[int, ...] | None:
    """The blocks whose outputs the head needs."""
    if config.kind == "weighted":
        return tuple(range(int(encoder.depth)))  # type: ignore[arg-type]
    return config.layers
