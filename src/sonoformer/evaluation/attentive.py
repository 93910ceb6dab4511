"""The attentive probe: learned queries that choose which tokens a linear classifier hears.

A mean over a clip drowns what happens for a moment; a query finds it. The form is the smallest
one: the score of a token is its product with the query (keys and values are the tokens
themselves), so that a probe has (1 + classes) x queries x dim weights and what it finds is the
encoder's doing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sonoformer.evaluation.descent import TokenProbe


class AttentiveProbe(TokenProbe):
    """Queries `(queries, dim)`, each with its own softmax over the real tokens of a clip.

    Args:
        dim: width of the tokens.
        classes: number of classes.
        queries: number of queries; their means stand side by side before the classifier.
    """

    def __init__(self, dim: int, classes: int, queries: int = 4) -> None:
        super().__init__()
        # Small, so that training begins with means over all tokens.
        self.query = nn.Parameter(0.01 * torch.randn(queries, dim))
        self.head = nn.Linear(queries * dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """As `TokenProbe.forward`."""
        return self.head(torch.einsum("bqt,btd->bqd", self.attention(x, real), x).flatten(1))

    def attention(self, x: Tensor, real: Tensor) -> Tensor:
        """`(batch, queries, tokens)` shares that sum to 1 over the real tokens."""
        scores = torch.einsum("btd,qd->bqt", x, self.query) / x.shape[-1] ** 0.5
        return scores.masked_fill(~real[:, None], -torch.inf).softmax(-1)
