"""Tokens -> logits of classes for every token column.

The three heads are those of the elephant detector of Geldenhuys and Niesler (arXiv 2410.12082 and
its published program), under names of their own: `mean` is their `seq`, `concat` their `seq-spec`,
`full` their `seq-full`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.nn.tokens import Tokens

FrameKind = Literal["mean", "concat", "full"]


@dataclass
class Frames:
    """What a frame head says of a batch of clips.

    Attributes:
        logits: `(batch, columns, classes)`.
        valid: bool `(batch, columns)`; columns made of real frames only.
        cells: `(batch, columns, rows, classes)` logits of every token, of head `full`.
        attention: `(batch, columns, classes)` logits of how much each column says about the clip.
    """

    logits: Tensor
    valid: Tensor
    cells: Tensor | None = None
    attention: Tensor | None = None

    def clip(self) -> Tensor:
        """Logits of whole clips `(batch, classes)`, padding left out.

        With attention (Kong et al. 2018, "Audio Set classification with attention model", eq. 5)
        the clip's probability is a mean of the columns' probabilities, weighted by a softmax over
        time; its logit is computed without leaving the logarithms. Without it: the highest column.
        """
        padding = ~self.valid.unsqueeze(-1)
        logits = _wide(self.logits)
        if self.attention is None:
            return logits.masked_fill(padding, float("-inf")).amax(1)
        weight = _wide(self.attention).masked_fill(padding, float("-inf")).log_softmax(1)
        present = (weight + F.logsigmoid(logits)).logsumexp(1)
        absent = (weight + F.logsigmoid(-logits)).logsumexp(1)
        return present - absent


class FrameHead(nn.Module):
    """A linear layer on every column's tokens.

    Args:
        dim: width of the tokens.
        rows: token rows, the encoder's grid in frequency.
        classes: number of outputs.
        kind: mean: the layer on each token, then the mean over the rows of a column; concat: the
            layer on a column's tokens put together; full: the layer on each token, whose logits are
            kept; a column's logit is log(sum(exp)) over its rows, so that one row is enough.
        attention: a second layer of the same shape weighs the columns for clip scores, so that the
            head can learn from labels of whole clips.
    """

    def __init__(
        self, dim: int, rows: int, classes: int, kind: FrameKind, attention: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.classes = kind, classes
        width = dim * rows if kind == "concat" else dim
        outputs = 2 * classes if attention else classes
        self.network = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.network.weight, std=0.02)
        nn.init.zeros_(self.network.bias)

    def forward(self, tokens: Tokens) -> Frames:
        """`Tokens` -> `Frames`; of tokens with the outputs of blocks, those are taken."""
        x = torch.cat(tokens.layers, -1) if tokens.layers else tokens.x
        freq, time = tokens.grid
        batch = len(x)
        x = x[:, tokens.prefix :].reshape(batch, freq, time, -1).transpose(1, 2)
        # On the grid and not on the list of tokens: a column is padding as a whole.
        valid = tokens.valid.reshape(batch, freq, time).transpose(1, 2)
        real = valid.any(2)
        if self.kind == "concat":
            found = self.network(x.flatten(2))
            return Frames(found[..., : self.classes], real, None, self._weights(found))
        each = self.network(x)
        if self.kind == "mean":
            found = _mean(each, valid)
            return Frames(found[..., : self.classes], real, None, self._weights(found))
        cells = each[..., : self.classes]
        # Padding keeps its rows, whatever they are: no gradient becomes NaN through it.
        heard = (valid | ~real.unsqueeze(2)).unsqueeze(-1)
        rows = _wide(cells).masked_fill(~heard, float("-inf"))
        weights = self._weights(_mean(each, valid))
        return Frames(rows.logsumexp(2), real, cells, weights)

    def _weights(self, found: Tensor) -> Tensor | None:
        return found[..., self.classes :] if found.shape[-1] > self.classes else None


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid rows: `(batch, columns, rows, k)` -> `(batch, columns, k)`."""
    weight = valid.to(values.dtype).unsqueeze(-1)
    return (values * weight).sum(2) / weight.sum(2).clamp_min(1)


def _wide(values: Tensor) -> Tensor:
    """In 32 bits at least, in which exponentials are summed."""
    return values if values.dtype == torch.float64 else values.float()
