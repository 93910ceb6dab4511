"""Small heads on top of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassifierHead(nn.Sequential):
    """LayerNorm (eps 1e-5) and a linear layer: AST's and SSAST's `mlp_head`.

    Args:
        dim: width of the pooled tokens.
        classes: number of outputs.
        norm_eps: epsilon of the norm.
    """

    def __init__(self, dim: int, classes: int, norm_eps: float = 1e-5) -> None:
        linear = nn.Linear(dim, classes)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.LayerNorm(dim, eps=norm_eps), linear)

    def forward(self, pooled: Tensor) -> Tensor:
        """`(batch, dim)` -> logits `(batch, classes)`; the norm in fp32."""
        with torch.autocast(pooled.device.type, enabled=False):
            normed = self[0](pooled.float())
        return self[1](normed)


class PredictionHead(nn.Sequential):
    """Linear, ReLU, linear: SSAST's two pretext heads.

    Args:
        dim: width of the tokens.
        out: pixels of a patch.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out))


class PixelHead(nn.Sequential):
    """Two layers with GELU, a narrow one with GELU, and one to the pixels: ASiT's.

    Its last layer, there a transposed convolution from each patch to its own pixels, is the same
    linear map.

    Args:
        dim: width of the tokens.
        pixels: of a patch.
        narrow: width before the last layer.
    """

    def __init__(self, dim: int, pixels: int, narrow: int = 128) -> None:
        layers: list[nn.Module] = []
        for inside, out in ((dim, dim), (dim, dim), (dim, narrow)):
            layers += [nn.Linear(inside, out), nn.GELU()]
        super().__init__(*layers, nn.Linear(narrow, pixels))
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
