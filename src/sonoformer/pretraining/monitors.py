"""Has the encoder collapsed? Figures that say so before a probe does."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.nn.reduce import all_sum


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

    Falls to zero when the features no longer depend on the sound. The batch is that of all
    processes, and each is given the same number, by which a run may end.

    Args:
        features: `(batch, n, dim)`.
        keep: bool `(batch, n)`.
    """
    weight = keep.unsqueeze(-1).float()
    count = all_sum(weight.sum()).clamp_min(1)
    x = features.float()
    mean = all_sum((x * weight).sum((0, 1))) / count
    variance = all_sum(((x - mean).square() * weight).sum((0, 1))) / count
    return variance.sqrt().mean()


@torch.no_grad()
def entropies(probabilities: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Entropy of the mean, and mean of the entropies, in nats, over all processes.

    Of a healthy teacher the first is near log(prototypes), all of which are used, and the second
    well below it, for each target is a choice.

    Args:
        probabilities: `(..., prototypes)`, each row adding up to 1.
        keep: bool `(...)`; the rest does not count.
    """
    p = probabilities.float().flatten(0, -2)
    weight = torch.ones(len(p), device=p.device) if keep is None else keep.flatten().float()
    weight = (weight / all_sum(weight.sum()).clamp_min(1)).unsqueeze(1)
    mean = all_sum((p * weight).sum(0))
    each = -(p * p.clamp_min(1e-12).log()).sum(1, keepdim=True)
    return -(mean * mean.clamp_min(1e-12).log()).sum(), all_sum((each * weight).sum())


class CollapseWatch(nn.Module):
    """Ends a run whose teacher gives the same targets whatever the sound, or none that are finite.

    It looks at a moving average of the targets' `spread`, so that a few batches of silence are
    borne; a collapse is found within some 300 batches. The average is part of the module's state.

    Args:
        least: spread below which targets are as good as constant; healthy ones, standardised, are
            well above it.
        decay: share of the average that a batch leaves.
    """

    average: Tensor

    def __init__(self, least: float = 0.05, decay: float = 0.99) -> None:
        super().__init__()
        self.least, self.decay = least, decay
        self.register_buffer("average", torch.ones(()))

    @torch.no_grad()
    def add(self, value: Tensor) -> None:
        """Take note of a batch; on a CPU the average is looked at, too.

        Raises:
            UserError: as `look`.
        """
        self.average.lerp_(value.float(), 1 - self.decay)
        if value.device.type == "cpu":
            self.look()

    def look(self) -> None:
        """Wait for the device, and judge.

        Raises:
            UserError: the targets have collapsed, or are not finite.
        """
        average = self.average.item()
        if average >= self.least:
            return
        if math.isnan(average):
            raise UserError(
                "the teacher's targets are not finite numbers; the last good checkpoint is kept: "
                "lower lr or set clip, then start again"
            )
        raise UserError(
            f"the teacher has collapsed: its targets hardly depend on the sound any more (spread "
            f"{average:.3f}, least {self.least:g}). Lower lr, lengthen the warm-up, raise the "
            "momentum, or look whether the recordings are silent"
        )
