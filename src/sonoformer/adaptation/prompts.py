"""Learned keys and values beside those of the clip: prefixes, and prompts that make them.

Queries look at the learned keys apart from the clip's, and what they find is added times a gate for
each head that begins at zero (zero-initialised attention, Zhang et al. 2024, "LLaMA-Adapter",
section 3.2). So training starts from the encoder as it was, which prompts among the tokens would
disturb at once; and prompts are no tokens, which pooling or a head could hear.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.nn.blocks import Block, plain_weights


class Gated(nn.Module):
    """gate x attention of the queries to learned keys and values."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(heads, 1, 1))

    def keys_and_values(self) -> tuple[Tensor, Tensor]:
        """Each `(heads, learned, head dim)`."""
        raise NotImplementedError

    def forward(self, q: Tensor) -> Tensor:
        """`(batch, heads, tokens, head dim)` -> what is added, of the same shape."""
        k, v = (x.to(q.dtype).expand(len(q), -1, -1, -1) for x in self.keys_and_values())
        return self.gate.tanh().to(q.dtype) * F.scaled_dot_product_attention(q, k, v)


class Prefix(Gated):
    """Keys and values that are learned as they are (Li and Liang 2021, section 4.2).

    Args:
        dim: width of the tokens.
        heads: of the attention.
        count: learned keys.
    """

    def __init__(self, dim: int, heads: int, count: int) -> None:
        super().__init__(heads)
        self.keys = nn.Parameter(0.02 * torch.randn(heads, count, dim // heads))
        self.values = nn.Parameter(0.02 * torch.randn(heads, count, dim // heads))

    def keys_and_values(self) -> tuple[Tensor, Tensor]:
        """See `Gated`."""
        return self.keys, self.values


class Prompt(Gated):
    """Learned vectors that a block's own norm and projection make keys and values of (visual prompt
    tuning, Jia et al. 2022, section 3.2, in the gated form).

    Args:
        block: the block.
        tokens: the vectors `(learned, dim)`; None if the block before hands them on.
    """

    def __init__(self, block: Block, tokens: Tensor | None) -> None:
        super().__init__(block.attn.heads)
        self.tokens = None if tokens is None else nn.Parameter(tokens)
        # Not registered: the block is not part of its own prompt.
        self._block = [block]
        self._before: list[Prompt] = []

    def follow(self, before: Prompt) -> None:
        """Take what `before` and its block make of the prompts there."""
        self._before = [before]

    def heard(self) -> Tensor:
        """The prompts at this block, `(learned, dim)`."""
        if self.tokens is not None:
            return self.tokens
        return self._before[0].handed_on()

    def handed_on(self) -> Tensor:
        """What the block makes of its prompts, which hear each other and not the clip."""
        block, x = self._block[0], self.heard()
        q, k, v = self._projected(x, 3)
        found = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
        x = x + block.attn.proj(found)
        return x + block.mlp(block.norm2(x))

    def keys_and_values(self) -> tuple[Tensor, Tensor]:
        """See `Gated`."""
        k, v = self._projected(self.heard(), 2)
        return k, v

    def _projected(self, x: Tensor, last: int) -> tuple[Tensor, ...]:
        """The last so many of queries, keys and values, `(heads, learned, head dim)` each."""
        block = self._block[0]
        weight, bias = plain_weights(block.attn.qkv)
        assert bias is not None
        first = (3 - last) * x.shape[1]
        x = F.linear(block.norm1(x), weight[first:], bias[first:])
        return x.unflatten(1, (last, block.attn.heads, -1)).permute(1, 2, 0, 3).unbind(0)
