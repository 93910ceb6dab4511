"""Latent bootstrap with many masks a clip: EAT (Chen et al., IJCAI 2024), data2vec 2.0's for sound.

A teacher, the moving average of the student, hears the whole clip once. Its targets y_i are the
means of its blocks' outputs, each normalised over the clip, then by token (section 3.2 there). Of
each clip the student sees K views (section 3.3), a fifth of the tokens each, left visible in
squares; convolutions over the grid predict the targets of the hidden ones from its outputs, and its
CLS token their mean over the clip:

    L_patch     = 1/N sum_i || d_i - y_i ||^2 / dim,   over hidden tokens i
    L_utterance = || cls - mean_i y_i ||^2 / dim
    L           = L_patch + weight * L_utterance

The front end, the teacher and the embedding of the patches work once a clip, for all its views.
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
from sonoformer.nn.masks import Mask, Split, draw_split, noise_count
from sonoformer.nn.subsets import gather
from sonoformer.nn.targets import mean_of_layers
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.nn.tokens import Encoder, Patches
from sonoformer.pretraining.bootstrap import Bootstrap, Keep
from sonoformer.pretraining.monitors import spread
from sonoformer.pretraining.mspm import generative_mse
from sonoformer.pretraining.objective import columns


@dataclass(frozen=True)
class EatConfig:
    """Latent bootstrap with many masks a clip."""

    mask_ratio: float = 0.8
    """Share of a clip's real tokens that is hidden in each view."""
    masking: Literal["inverse", "random", "centred"] = "inverse"
    """inverse: squares of 5 patches are left visible; random: single tokens; centred: squares of 3
    to 5 patches are hidden."""
    masks: int = 16
    """Views of a clip in a step; the front end and the teacher serve all of them at once."""
    weight: float = 1.0
    """Weight of the utterance loss; 0 leaves it out."""
    decoder: DecoderConfig = DecoderConfig(kind="conv", depth=6)
    """What predicts the hidden targets."""
    momentum: MomentumConfig = MomentumConfig(0.9998, 0.99999, "linear", ramp=0.25, steps=400_000)
    """How slowly the teacher follows; the figures are those of 400,000 steps, over the first
    100,000 of which the momentum rises."""
    keep: Keep = "student"
    """Which encoder is saved."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise UserError(f"mask_ratio: must be between 0 and 1; got {self.mask_ratio}.")
        if self.masks < 1:
            raise UserError(f"masks: must be at least 1; got {self.masks}.")
        if self.weight < 0:
            raise UserError(f"weight: must be at least 0; got {self.weight}.")


class Eat(Bootstrap):
    """An encoder learning from a teacher that hears the whole of what it sees in parts.

    Args:
        encoder: gives tokens.
        config: the options.
        samples: length of the longest clip.
    """

    title = "Latent bootstrap with many masks a clip"

    def __init__(self, encoder: Encoder, config: EatConfig, samples: int) -> None:
        super().__init__(encoder, samples, config.momentum, config.keep)
        self.config = config
        self.masked_views = config.masks
        self.noise = config.masks * noise_count(config.masking, self.grid)
        self.decoder = make_decoder(encoder.dim, encoder.dim, config.decoder)

    def terms_of(self, batch: Batch) -> dict[str, Tensor]:
        """`patch` and `utterance`; the spreads of targets and predictions."""
        patches = self.cut(batch)
        return self.terms(patches, self.views(self.random(batch), patches), self.targets(patches))

    def views(self, noise: Tensor, patches: Patches) -> Split:
        """The masks of `(clips * masks)` views, those of a clip in a row."""
        masks = self.config.masks
        return draw_split(
            noise.unflatten(1, (masks, -1)).flatten(0, 1),
            columns(patches).repeat_interleave(masks),
            patches.grid,
            self.config.mask_ratio,
            self.config.masking,
        )

    @torch.no_grad()
    def targets(self, patches: Patches) -> Tensor:
        """What the teacher makes of the whole clips, fp32 `(clips, tokens, dim)`."""
        pixels, grid, valid = patches
        teacher = self.taught_by
        layers = range(teacher.depth)
        tokens = teacher.encode(teacher.embed_patches(pixels, grid), valid, grid, layers)
        return mean_of_layers(tokens.layers, valid, tokens.prefix)

    def terms(self, patches: Patches, views: Split, targets: Tensor) -> dict[str, Tensor]:
        """The losses and what they are judged by, means over clips, for given views."""
        pixels, grid, valid = patches
        masks, seen = self.config.masks, views.visible
        x = _of_views(self.encoder.embed_patches(pixels, grid), seen)
        tokens = self.encoder.encode(x, seen.keep, grid)
        hidden, real = views.hidden, valid.repeat_interleave(masks, 0)
        prediction = self.decoder(tokens.x, tokens.prefix, views, real, grid)
        aims = _of_views(targets, hidden)
        terms = {"patch": generative_mse(prediction, aims, hidden.keep)}
        if self.config.weight:
            whole = (targets * valid.unsqueeze(-1)).sum(1) / valid.sum(1, keepdim=True).clamp_min(1)
            aims = whole.repeat_interleave(masks, 0).unsqueeze(1)
            heard = tokens.pool("cls").unsqueeze(1)
            terms["utterance"] = generative_mse(heard, aims, real.any(1, keepdim=True))
        # One view of each clip is enough to see whether the predictions depend on the sound.
        terms["target_spread"] = spread(targets, valid)
        terms["prediction_spread"] = spread(
            prediction.detach()[::masks], views.hidden.keep[::masks]
        )
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        if not self.config.weight:
            return terms["patch"]
        return terms["patch"] + self.config.weight * terms["utterance"]


def _of_views(x: Tensor, chosen: Mask) -> Tensor:
    """The chosen tokens of each view, from `x` `(clips, tokens, dim)`: `(views, n, dim)`."""
    views, count = chosen.ids.shape
    of_clips = chosen.ids.reshape(len(x), views // len(x) * count)
    return gather(x, of_clips).reshape(views, count, x.shape[-1])
