"""ASiT on the visible tokens alone: an extension of ours, not of the paper.

ASiT corrupts pixels and shows its student every token, most of them worthless. Here rectangles of
whole patches are drawn by the same law until a fixed share of the tokens is reached, and these are
not shown at all. A light decoder says, from the student's outputs, what hidden tokens are like; the
head then tells their prototypes and pixels as it does those of the visible. In half of the clips
some of what is visible is another clip's. The losses are those of ASiT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.nn.corruption import AlienConfig, alien_noise, overwrite
from sonoformer.nn.decoders import DecoderConfig, make_decoder
from sonoformer.nn.masks import Split, split_by
from sonoformer.nn.prototypes import HeadConfig, TemperatureConfig
from sonoformer.nn.rectangles import MANY, arrivals, rectangle_noise
from sonoformer.nn.subsets import gather, place
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.nn.tokens import Encoder, Patches
from sonoformer.pretraining.asit import Asit, Heard, Views, check
from sonoformer.pretraining.bootstrap import Keep
from sonoformer.pretraining.objective import columns


@dataclass(frozen=True)
class AsitDropConfig:
    """Self-distillation of clips and patches with hidden tokens left out of the student."""

    view: float = 5.92
    """Seconds of each of the two crops of a clip; shorter clips are heard whole, twice."""
    places: Literal["clip", "crop"] = "clip"
    """Where the positions of a crop are counted from: the beginning of the clip, or its own."""
    drop: float = 0.6
    """Share of a crop's real tokens that the student does not see."""
    alien: AlienConfig = AlienConfig()
    """Crops whose visible tokens are overwritten by another clip's."""
    decoder: DecoderConfig = DecoderConfig()
    """What says what hidden tokens are like."""
    head: HeadConfig = HeadConfig()
    """Prototypes, and what tells them."""
    temperature: TemperatureConfig = TemperatureConfig()
    """How decided the choices among prototypes are."""
    centring: float = 0.9
    """Share of the centre that a step leaves."""
    clip_weight: float = 1.0
    """Weight of the loss between the two crops."""
    patch_weight: float = 1.0
    """Weight of the loss between the two hearings of a patch."""
    pixel_weight: float = 2.0
    """Weight of the reconstruction."""
    momentum: MomentumConfig = MomentumConfig(0.996, 1.0, "cosine")
    """How slowly the teacher follows."""
    keep: Keep = "teacher"
    """Which encoder is saved."""

    def __post_init__(self) -> None:
        check(self)
        if not 0 < self.drop < 1:
            raise UserError(f"drop: must be between 0 and 1; got {self.drop}.")


class AsitDrop(Asit):
    """ASiT with a student that sees only some of the tokens.

    Args:
        encoder: the student.
        config: the options.
        samples: length of the longest clip.
    """

    title = "Self-distillation of clips and patches, hidden tokens left out"

    def __init__(self, encoder: Encoder, config: AsitDropConfig, samples: int) -> None:
        super().__init__(encoder, config, samples)
        self.decoder = make_decoder(encoder.dim, encoder.dim, config.decoder)

    def corruption_noise(self) -> int:
        """Uniform numbers that `heard` needs for a crop; one for each token settles ties."""
        return alien_noise() + rectangle_noise(MANY) + self.grid[0] * self._columns()

    def heard(self, views: Views, clean: Patches, noise: Tensor) -> Heard:
        """The crops, partly alien, and which of their tokens are hidden."""
        aliens, corners, ties = noise.split(
            [alien_noise(), rectangle_noise(MANY), noise.shape[1] - alien_noise() - 4 * MANY], 1
        )
        split = self.split(clean, corners, ties)
        hidden = split.hidden.dense(clean.valid.shape[1]).unsqueeze(-1)
        frames = self.usable(views, clean)
        specs, masks = [], []
        for spec, real, u in zip(
            views.spec.chunk(2), frames.chunk(2), aliens.chunk(2), strict=True
        ):
            (alien, mask), chosen = overwrite(spec, real, u, self.config.alien, self._align)
            chosen = chosen.view(-1, 1, 1)
            specs.append(torch.where(chosen, alien, spec))
            masks.append(mask & chosen)
        pixels = self.encoder.patches(torch.cat(specs), views.frames).pixels
        return Heard(pixels, hidden | self.cells(torch.cat(masks)), split)

    def split(self, clean: Patches, corners: Tensor, ties: Tensor) -> Split:
        """Hide the tokens that rectangles reach first; of one rectangle's, some at random."""
        grid, real = clean.grid, columns(clean)
        align, shape = self._align, (clean.grid[1] * self._align[0], self.shape[1])
        found = arrivals(corners, real * align[0], shape, align)[:, : grid[1], : grid[0]]
        ties = ties[:, : grid[0] * grid[1]].unflatten(1, (grid[1], grid[0]))
        key = found.long() * 2**24 + (ties * 2**24).long()
        silent = torch.arange(grid[1], device=key.device) >= real.unsqueeze(1)
        key = key.masked_fill(silent.unsqueeze(-1), 2**62).transpose(1, 2).flatten(1)
        return split_by(key, real, grid, self.config.drop)

    def student(self, clean: Patches, heard: Heard, views: Views) -> tuple[Tensor, Tensor]:
        """What the student and the decoder make of the crops, and of their patches."""
        split: Split = heard.extra
        seen, count = split.visible, clean.valid.shape[1]
        where, ids = self.places(clean.grid, views)
        index = seen.ids if ids is None else ids.gather(1, seen.ids)
        x = self.encoder.embed_patches(gather(heard.pixels, seen.ids), where, index=index)
        tokens = self.encoder.encode(x, seen.keep, clean.grid)
        x, prefix = tokens.x, tokens.prefix
        guessed = self.decoder(x, prefix, split, clean.valid, clean.grid).to(x.dtype)
        nothing = x.new_zeros(x.shape[-1])
        patches = place(x[:, prefix:], seen, count, nothing)
        patches = patches + place(guessed, split.hidden, count, nothing)
        return tokens.pool("cls"), patches

    @property
    def _align(self) -> tuple[int, int]:
        """Frames and bins of a patch."""
        bins, frames = self.encoder.config.patch
        return frames, bins

    def _columns(self) -> int:
        return max(1, self.shape[0] // self._align[0])
