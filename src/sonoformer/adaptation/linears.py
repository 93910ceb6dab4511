"""Linear layers with a few weights of their own beside the frozen ones: LoRA, DoRA, IA3.

Each takes the place of an `nn.Linear`, shares its weight and bias under the same names, computes
the same at the start, and can be merged into an ordinary layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rows = Sequence[tuple[int, int]]
"""Stretches [first, last) of a layer's outputs, as queries and values of a fused projection."""


class AdaptedLinear(nn.Linear):
    """A linear layer that adds something to what it was.

    Args:
        layer: the layer; its weight and bias are shared, not copied.
        rows: outputs that are adapted.
    """

    def __init__(self, layer: nn.Linear, rows: Rows) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.rows = tuple(rows)

    def adapted(self) -> tuple[Tensor, Tensor | None]:
        """Weight `(out, in)` and bias of the ordinary layer that computes the same."""
        raise NotImplementedError

    def merged(self) -> nn.Linear:
        """That layer, apart from this one."""
        weight, bias = self.adapted()
        layer = nn.Linear(self.in_features, self.out_features, bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone())
        return layer

    def _spread(self, parts: Sequence[Tensor], other: float) -> Tensor:
        """Parts of `rows` along the first axis, with `other` in the outputs between them."""
        pieces, end = [], 0
        for (first, last), part in zip(self.rows, parts, strict=True):
            pieces += [part.new_full((first - end, *part.shape[1:]), other), part]
            end = last
        rest = parts[0].new_full((self.out_features - end, *parts[0].shape[1:]), other)
        return torch.cat([*pieces, rest])


class Lora(AdaptedLinear):
    """W x + b + scale B A x (Hu et al. 2022, section 4.1), with A and B for each stretch of rows.

    A is drawn like a new layer's weights and B is zero: training starts from the layer as it was.

    Args:
        layer: the layer.
        rows: outputs that are adapted.
        rank: of each product; less than the layer's inputs and outputs.
        scale: factor; the paper's alpha over the rank.
    """

    def __init__(self, layer: nn.Linear, rows: Rows, rank: int, scale: float) -> None:
        super().__init__(layer, rows)
        self.scale = scale
        like = layer.weight
        self.lora_a = nn.Parameter(like.new_empty(len(self.rows) * rank, self.in_features))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.lora_b = nn.ParameterList(
            nn.Parameter(like.new_zeros(last - first, rank)) for first, last in self.rows
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` -> `(..., out)`."""
        return F.linear(x, self.weight, self.bias) + self._beside(x)

    def adapted(self) -> tuple[Tensor, Tensor | None]:
        """See `AdaptedLinear`."""
        return self.weight + self._up() @ self.lora_a, self.bias

    def _beside(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.lora_a), self._up())

    def _up(self) -> Tensor:
        """B of all stretches with the scale, `(out, stretches x rank)`."""
        count, wide = len(self.rows), self.lora_a.shape[0] // len(self.rows)
        parts = [
            F.pad(b, (place * wide, (count - 1 - place) * wide))
            for place, b in enumerate(self.lora_b)
        ]
        return self.scale * self._spread(parts, 0.0)


class Dora(Lora):
    """LoRA of the directions of W's rows, and their lengths m (Liu et al. 2024, section 4.1).

    W' = m (W + scale B A) / |W + scale B A|, where the norm of each row gets no gradient (section
    4.3).
    """

    def __init__(self, layer: nn.Linear, rows: Rows, rank: int, scale: float) -> None:
        super().__init__(layer, rows, rank, scale)
        norms = layer.weight.detach().norm(dim=1)
        self.lengths = nn.ParameterList(
            nn.Parameter(norms[first:last].clone()) for first, last in self.rows
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` -> `(..., out)`."""
        y = (F.linear(x, self.weight) + self._beside(x)) * self._ratio()
        return y if self.bias is None else y + self.bias

    def adapted(self) -> tuple[Tensor, Tensor | None]:
        """See `AdaptedLinear`."""
        return super().adapted()[0] * self._ratio().unsqueeze(1), self.bias

    def _ratio(self) -> Tensor:
        """m over the norm of each row; 1 in rows that are not adapted."""
        norms = super().adapted()[0].detach().norm(dim=1)
        parts = [
            lengths / norms[first:last].clamp_min(1e-12)
            for (first, last), lengths in zip(self.rows, self.lengths, strict=True)
        ]
        return self._spread(parts, 1.0)


class Scaled(AdaptedLinear):
    """Outputs, or inputs, times factors that begin at 1: IA3 (Liu et al. 2022, section 3.3).

    Args:
        layer: the layer.
        rows: outputs that are scaled; none scales the inputs instead.
    """

    def __init__(self, layer: nn.Linear, rows: Rows) -> None:
        super().__init__(layer, rows)
        sizes = [last - first for first, last in self.rows] or [self.in_features]
        self.factors = nn.ParameterList(nn.Parameter(layer.weight.new_ones(n)) for n in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` -> `(..., out)`."""
        if not self.rows:
            return F.linear(x * self.factors[0], self.weight, self.bias)
        return F.linear(x, self.weight, self.bias) * self._spread(list(self.factors), 1.0)

    def adapted(self) -> tuple[Tensor, Tensor | None]:
        """See `AdaptedLinear`."""
        if not self.rows:
            return self.weight * self.factors[0], self.bias
        factors = self._spread(list(self.factors), 1.0)
        bias = None if self.bias is None else self.bias * factors
        return self.weight * factors.unsqueeze(1), bias
