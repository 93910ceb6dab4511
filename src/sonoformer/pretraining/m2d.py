"""Masked modelling duo (Niizumi et al., ICASSP 2023 and TASLP 2024).

The online encoder sees the visible tokens of a clip, and a predictor gives, from its outputs and a
mask token at each hidden place, p_i for the hidden ones. The target encoder, a moving average of
the online one, sees the hidden tokens alone, so that neither can copy from the other. Its outputs
z_i, standardised by token, are what is to be predicted, up to length:

    L = 1/N sum_i || p_i / |p_i| - z_i / |z_i| ||^2 = 2 - 2/N sum_i cos(p_i, z_i)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.errors import UserError
from sonoformer.nn.decoders import DecoderConfig, make_decoder
from sonoformer.nn.masks import Mask, Split, draw_split, noise_count
from sonoformer.nn.subsets import clip_mean
from sonoformer.nn.targets import per_patch
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.nn.tokens import Encoder, Patches
from sonoformer.pretraining.bootstrap import Bootstrap, Keep
from sonoformer.pretraining.monitors import spread
from sonoformer.pretraining.objective import columns


@dataclass(frozen=True)
class M2dConfig:
    """Masked modelling duo."""

    mask_ratio: float = 0.7
    """Share of a clip's real tokens that is hidden from the online encoder, and shown to the
    other."""
    masking: Literal["random", "centred", "inverse"] = "random"
    """random: single tokens; centred: squares of 3 to 5 patches are hidden; inverse: squares of 5
    are left visible."""
    decoder: DecoderConfig = DecoderConfig()
    """The predictor."""
    momentum: MomentumConfig = MomentumConfig(0.99995, 0.99999, "linear", steps=293_000)
    """How slowly the target encoder follows; the figures are those of 300 epochs of 2 million clips
    in batches of 2048."""
    keep: Keep = "student"
    """Which encoder is saved; the student is the online one."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise UserError(f"mask_ratio: must be between 0 and 1; got {self.mask_ratio}.")


class M2d(Bootstrap):
    """An encoder of the visible learning what another makes of the hidden.

    Args:
        encoder: gives tokens; the online encoder.
        config: the options.
        samples: length of the longest clip.
    """

    title = "Masked modelling duo"

    def __init__(self, encoder: Encoder, config: M2dConfig, samples: int) -> None:
        super().__init__(encoder, samples, config.momentum, config.keep)
        self.config = config
        self.noise = noise_count(config.masking, self.grid)
        self.decoder = make_decoder(encoder.dim, encoder.dim, config.decoder)

    def terms_of(self, batch: Batch) -> dict[str, Tensor]:
        """`distance`, and the spreads of targets and predictions."""
        patches = self.cut(batch)
        split = draw_split(
            self.random(batch),
            columns(patches),
            patches.grid,
            self.config.mask_ratio,
            self.config.masking,
        )
        return self.terms(patches, split, self.targets(patches, split.hidden))

    @torch.no_grad()
    def targets(self, patches: Patches, hidden: Mask) -> Tensor:
        """What the target encoder makes of the hidden tokens, fp32 `(clips, hidden, dim)`."""
        tokens = self.see(patches, hidden, self.taught_by)
        return per_patch(tokens.x[:, tokens.prefix :])

    def terms(self, patches: Patches, split: Split, targets: Tensor) -> dict[str, Tensor]:
        """The loss and what it is judged by, means over clips, for given masks."""
        tokens, keep = self.see(patches, split.visible), split.hidden.keep
        prediction = self.decoder(tokens.x, tokens.prefix, split, patches.valid, patches.grid)
        scale = targets.shape[-1] ** 0.5  # as long as a standardised target
        return {
            "distance": cosine_distance(prediction, targets, keep),
            "target_spread": spread(targets, keep),
            "prediction_spread": spread(
                scale * F.normalize(prediction.detach().float(), dim=-1), keep
            ),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        return terms["distance"]


def cosine_distance(pred: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Mean over clips and hidden tokens of 2 - 2 cos(p_i, z_i), in fp32.

    Args:
        pred: `(batch, n, dim)`, the p_i.
        target: `(batch, n, dim)`, the z_i.
        keep: bool `(batch, n)`; the rest does not count.
    """
    with torch.autocast(pred.device.type, enabled=False):
        cosine = F.cosine_similarity(pred.float(), target.detach().float(), dim=-1)
        return clip_mean(2 - 2 * cosine, keep)
