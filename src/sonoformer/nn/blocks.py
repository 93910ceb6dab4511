"""The pre-norm transformer block of ViT, DeiT and AST."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value.

    Args:
        dim: width; a multiple of `heads`.
        heads: number of heads.

    Attributes:
        aside: adds to what the heads found, from their queries `(batch, heads, tokens, head dim)`
            alone; for learned keys and values (see `adaptation.prompts`). None by default.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.aside: nn.Module | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None, keep: int | None = None) -> Tensor:
        """`(batch, tokens, dim)` -> the same, or the first `keep` tokens of it.

        `mask` is bool, broadcastable to `(batch, heads, tokens, tokens)`, true where a key may be
        attended to.
        """
        if keep is not None:
            return self._first(x, mask, keep)
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = self._found(q, k, v, mask)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))

    def _first(self, x: Tensor, mask: Tensor | None, keep: int) -> Tensor:
        """All tokens are attended to, but only the first `keep` ask."""
        batch, _, dim = x.shape
        weight, bias = plain_weights(self.qkv)
        assert bias is not None
        q = F.linear(x[:, :keep], weight[:dim], bias[:dim])
        kv = F.linear(x, weight[dim:], bias[dim:])
        q = q.unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = kv.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = self._found(q, k, v, mask)
        return self.proj(out.transpose(1, 2).reshape(batch, keep, dim))

    def _found(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x if self.aside is None else x + self.aside(q)


def plain_weights(layer: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with which a linear layer computes, adapted or not (`adaptation.linears`)."""
    adapted = getattr(layer, "adapted", None)
    return (layer.weight, layer.bias) if adapted is None else adapted()


class Mlp(nn.Module):
    """Linear, exact GELU, linear.

    Where gradients pass through it but none of its weights learns (LoRA on attention, adapters,
    prompts), the backward pass computes the hidden layer again instead of keeping it: it is a third
    of what a block with such a method keeps, and the gradients are the same.

    Args:
        dim: width.
        hidden: width between the two layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` -> the same."""
        passes = torch.is_grad_enabled() and x.requires_grad
        # What an adapter beside the MLP learns is no part of it.
        own = (*self.fc1.parameters(), *self.fc2.parameters())
        if passes and not any(weight.requires_grad for weight in own):
            return checkpoint(self._whole, x, use_reentrant=False, preserve_rng_state=False)
        return self._whole(x)

    def _whole(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Leave a residual branch out for whole clips, with probability `rate`, in training only.

    Stochastic depth (Huang et al. 2016); kept branches are scaled so that the mean stays.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, ...)` -> the same."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


class Block(nn.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`. Names follow timm's.

    Args:
        dim: width.
        heads: number of attention heads.
        mlp_ratio: hidden width of the MLP over `dim`.
        drop_path: probability of leaving a branch out.
        norm_eps: epsilon of both norms (1e-6 in AST).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, round(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None = None, keep: int | None = None) -> Tensor:
        """`(batch, tokens, dim)` -> the same; `mask` and `keep` as in `Attention`."""
        x = x[:, :keep] + self.drop_path(self.attn(self.norm1(x), mask, keep))
        return x + self.drop_path(self.mlp(self.norm2(x)))
