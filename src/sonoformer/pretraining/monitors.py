"""Has the encoder collapsed? Figures that say so before a probe does."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values (RankMe, Garrido et al. 2023, section 3).

    1 when all clips look alike, at most the smaller side of the matrix.

    Args:
        features: `(clips, dim)`.
    """
    values = torch.linalg.svdvals(features.float() - features.float().mean(0))
    share = values / values.sum().clamp_min(1e-12)
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


@torch.no_grad()
def spread(features: Tensor, keep: Tensor) -> Tensor:
    """Mean over channels of the standard deviation over all kept tokens of the batch.

    Falls to zero when the features no longer depend on the sound.

    Args:
        features: `(batch, n, dim)`.
        keep: bool `(batch, n)`.
    """
    weight = keep.unsqueeze(-1).float()
    count = weight.sum().clamp_min(1)
    x = features.float()
    mean = (x * weight).sum((0, 1)) / count
    variance = ((x - mean).square() * weight).sum((0, 1)) / count
    return variance.sqrt().mean()


@torch.no_grad()
def entropies(probabilities: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Entropy of the mean, and mean of the entropies, in nats.

    Of a healthy teacher the first is near log(prototypes), all of which are used, and the second
    well below it, for each target is a choice.

    Args:
        probabilities: `(..., prototypes)`, each row adding up to 1.
        keep: bool `(...)`; the rest does not count.
    """
    p = probabilities.float().flatten(0, -2)
    weight = torch.ones(len(p), device=p.device) if keep is None else keep.flatten().float()
    weight = (weight / weight.sum().clamp_min(1)).unsqueeze(1)
    mean = (p * weight).sum(0)
    each = -(p * p.clamp_min(1e-12).log()).sum(1, keepdim=True)
    return -(mean * mean.clamp_min(1e-12).log()).sum(), (each * weight).sum()
