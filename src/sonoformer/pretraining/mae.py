"""Masked autoencoding (He et al. 2022) of spectrograms: Audio-MAE, MAE-AST, MaskSpec, Dasheng.

Only the visible tokens of a clip go through the encoder, a quarter or a fifth of them, which makes
a step cheap. A light decoder sees their outputs, and a mask token at each hidden place, and
predicts the pixels that were hidden:

    L = 1/N sum_i || r_i - x_i ||^2 / pixels,   over hidden patches i

x_i are the pixels of the patch with mean 0 and variance 1 (section 4.1 there; Audio-MAE, Huang et
al. 2022, section 3.4), or as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.errors import UserError
from sonoformer.nn.decoders import DecoderConfig, make_decoder
from sonoformer.nn.masks import Split, draw_split, noise_count
from sonoformer.nn.subsets import gather
from sonoformer.nn.targets import per_patch
from sonoformer.nn.tokens import Encoder, Patches
from sonoformer.pretraining.monitors import effective_rank
from sonoformer.pretraining.mspm import generative_mse
from sonoformer.pretraining.objective import Objective, columns


@dataclass(frozen=True)
class MaeConfig:
    """Masked autoencoding."""

    mask_ratio: float = 0.8
    """Share of a clip's real tokens that is hidden; Audio-MAE hides 0.8, MAE-AST 0.75."""
    masking: Literal["random", "centred", "inverse"] = "random"
    """random: single tokens; centred: squares of 3 to 5 patches are hidden; inverse: squares of 5
    are left visible."""
    target: Literal["normalised", "pixels"] = "normalised"
    """normalised: each patch with mean 0 and variance 1, which keeps the shape of a sound and
    drops its level; pixels: the spectrogram as the front end gives it."""
    decoder: DecoderConfig = DecoderConfig()
    """What predicts the hidden patches."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise UserError(f"mask_ratio: must be between 0 and 1; got {self.mask_ratio}.")


class Mae(Objective):
    """An encoder learning by masked autoencoding.

    Args:
        encoder: gives tokens.
        config: the options.
        samples: length of the longest clip.
    """

    title = "Masked autoencoding"

    def __init__(self, encoder: Encoder, config: MaeConfig, samples: int) -> None:
        super().__init__(encoder, samples)
        self.config = config
        self.noise = noise_count(config.masking, self.grid)
        self.decoder = make_decoder(encoder.dim, self.pixels, config.decoder)

    def terms_of(self, batch: Batch) -> dict[str, Tensor]:
        """`mse`, and of the encoder's outputs nothing else."""
        patches = self.cut(batch)
        split = draw_split(
            self.random(batch),
            columns(patches),
            patches.grid,
            self.config.mask_ratio,
            self.config.masking,
        )
        return {"mse": self.error(patches, split)}

    def error(self, patches: Patches, split: Split) -> Tensor:
        """The loss for given masks, a mean over clips."""
        pixels, grid, valid = patches
        tokens = self.see(patches, split.visible)
        prediction = self.decoder(tokens.x, tokens.prefix, split, valid, grid)
        target = gather(pixels, split.hidden.ids)
        if self.config.target == "normalised":
            target = per_patch(target)
        return generative_mse(prediction, target, split.hidden.keep)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        return terms["mse"]

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, Tensor]:
        """`rank`: of the batch's clips by the mean of their tokens."""
        return {"rank": effective_rank(self.encoder.pooled(batch.wave, batch.lengths))}
