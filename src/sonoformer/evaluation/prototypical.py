"""The prototypical probe: class prototypes looked for among all tokens of a clip.

Prototypical probing of Bird-MAE (Rauch et al. 2025), after AudioProtoPNet (Heinrich et al. 2025):
each class has a few prototypes; the activation of one is its largest cosine similarity with any
token; a linear layer without negative weights turns activations into logits; prototypes of a class
are kept apart by an orthogonality loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sonoformer.evaluation.descent import TokenProbe


class PrototypicalProbe(TokenProbe):
    """`classes x prototypes` vectors compared by cosine with every real token.

    Args:
        dim: width of the tokens.
        classes: number of classes.
        prototypes: number of each class's.
        orthogonality: weight of the loss that keeps a class's prototypes apart.
    """

    def __init__(
        self, dim: int, classes: int, prototypes: int = 10, orthogonality: float = 0.1
    ) -> None:
        super().__init__()
        self.shape, self.orthogonality = (classes, prototypes, dim), orthogonality
        # Of about unit length: only directions count, and longer vectors turn more slowly.
        self.prototypes = nn.Parameter(torch.randn(self.shape) / dim**0.5)
        # A class begins with its own prototypes alone. Cosines lie in [-1, 1]: a mean of them
        # times 10 can be as sure as a softmax needs to be.
        self.head = nn.Linear(classes * prototypes, classes)
        with torch.no_grad():
            own = torch.eye(classes).repeat_interleave(prototypes, 1)
            self.head.weight.copy_(own * 10 / prototypes)
            self.head.bias.zero_()

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """As `TokenProbe.forward`."""
        return self.head(self.activations(x, real))

    def activations(self, x: Tensor, real: Tensor) -> Tensor:
        """`(batch, classes x prototypes)` largest cosines over the real tokens of each clip."""
        bank = F.normalize(self.prototypes.flatten(0, 1), dim=-1)
        cosines = F.normalize(x, dim=-1) @ bank.T
        return cosines.masked_fill(~real[..., None], -2.0).amax(1)

    def penalty(self) -> Tensor:
        """Mean squared cosine between different prototypes of a class, weighted."""
        bank = F.normalize(self.prototypes, dim=-1)
        others = bank @ bank.transpose(1, 2) - torch.eye(self.shape[1])
        return self.orthogonality * others.square().mean() * self.shape[1]

    @torch.no_grad()
    def constrain(self) -> None:
        """No prototype speaks against a class."""
        self.head.weight.clamp_(min=0)
