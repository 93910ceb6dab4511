"""ASiT: self-distillation of clips and patches, and reconstruction (Atito et al., TASLP 2024).

Two crops v of each clip are heard by a student, in corrupted form, and by a teacher, its moving
average, as they are (c). Both say by a shared head which prototypes the crop (CLS) and each of its
patches belong to. With the student's logits s, the teacher's t, their centres C:

    p = softmax((t - C) / tau_t),   q = log softmax(s / tau_s)
    L_g = - 1/2 sum_v  p_cls^(v) . q_cls^(1 - v)          of the other crop: what a clip is
    L_l = - mean over crops and patches of  p_i . q_i     of the same crop: what is where
    L_r =   mean over corrupted pixels of  | r - c |
    L   =   L_g + L_l + 2 L_r
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.errors import UserError
from sonoformer.nn.corruption import AlienConfig, CorruptionConfig, corrupt, corruption_noise
from sonoformer.nn.heads import PixelHead
from sonoformer.nn.patches import cut
from sonoformer.nn.prototypes import (
    Centre,
    HeadConfig,
    Logits,
    PrototypeHead,
    TemperatureConfig,
)
from sonoformer.nn.rectangles import whole
from sonoformer.nn.reduce import all_mean
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.nn.tokens import Encoder, Patches, Tokens
from sonoformer.pretraining.bootstrap import Bootstrap, Keep
from sonoformer.pretraining.monitors import entropies
from sonoformer.pretraining.objective import columns


@dataclass(frozen=True)
class AsitConfig:
    """Self-distillation of clips and patches, and reconstruction."""

    view: float = 5.92
    """Seconds of each of the two crops of a clip; shorter clips are heard whole, twice."""
    places: Literal["clip", "crop"] = "clip"
    """Where the positions of a crop are counted from. clip: from the beginning of the clip, so that
    the encoder learns those of whole clips; crop: from its own, as in the paper, so that the
    positions of later seconds are left to fine-tuning."""
    corruption: CorruptionConfig = CorruptionConfig()
    """What is done to the student's crops."""
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

    @classmethod
    def reference(cls) -> AsitConfig:
        """What the authors' program does, where it differs from ours."""
        return cls(places="crop", corruption=CorruptionConfig(alien=AlienConfig(partner="any")))


def check(config: Any) -> None:
    """Refuse what no objective of this kind can do.

    Raises:
        UserError: an option out of its range.
    """
    if not config.view > 0:
        raise UserError(f"view: must be above 0 seconds; got {config.view}.")
    if not 0 <= config.centring < 1:
        raise UserError(f"centring: must be at least 0 and below 1; got {config.centring}.")
    weights = {n: getattr(config, n) for n in ("clip_weight", "patch_weight", "pixel_weight")}
    for name, value in weights.items():
        if value < 0:
            raise UserError(f"{name}: must be at least 0; got {value}.")
    if not any(weights.values()):
        raise UserError(f"{', '.join(weights)}: at least one must be above 0.")


class Views(NamedTuple):
    """The crops of a batch: all first ones, then all second ones.

    Attributes:
        spec: `(2 clips, frames, bins)`.
        frames: int64 `(2 clips,)`, real frames.
        starts: int64 `(2 clips,)`, frame of the clip at which the crop begins.
    """

    spec: Tensor
    frames: Tensor
    starts: Tensor


class Heard(NamedTuple):
    """What a student hears of the crops.

    Attributes:
        pixels: `(2 clips, tokens, pixels)`.
        mask: bool, alike: what differs from the clean crop, or is hidden.
        extra: what an objective has to know besides.
    """

    pixels: Tensor
    mask: Tensor
    extra: Any = None


class Asit(Bootstrap):
    """An encoder learning from a teacher that hears what it hears in corrupted form.

    Args:
        encoder: the student.
        config: the options.
        samples: length of the longest clip.
    """

    title = "Self-distillation of clips and patches"
    masked_views = 2
    head: PrototypeHead
    tau: Tensor

    def __init__(self, encoder: Encoder, config: Any, samples: int) -> None:
        head = PrototypeHead(encoder.dim, config.head)
        super().__init__(encoder, samples, config.momentum, config.keep, head)
        self.config = config
        self.shape = self._shape(samples)
        self.noise = 2 * (1 + self.corruption_noise())
        self.reconstruct = PixelHead(encoder.dim, self.pixels)
        self.clip_centre = Centre(config.head.clip, config.centring)
        self.patch_centre = Centre(config.head.patch, config.centring)
        self.register_buffer("tau", torch.tensor(config.temperature.start))

    def _shape(self, samples: int) -> tuple[int, int]:
        """Frames and bins of the longest crops."""
        shape = self.encoder.config
        frames = round(self.config.view * 1000 / shape.front.step_ms)
        if frames < shape.patch[1]:
            raise UserError(
                f"view: {self.config.view:g} s are {frames} frames, less than the {shape.patch[1]} "
                "of a patch"
            )
        return min(frames, shape.front.frames(samples)), shape.front.n_mels

    # A step.

    def terms_of(self, batch: Batch) -> dict[str, Tensor]:
        """`clip`, `patch` and `pixel`, the terms of the loss; and what shows a collapse."""
        noise = self.random(batch)
        views, rest = self.views(*self.encoder.front(batch.wave, batch.lengths), noise)
        clean = self.encoder.patches(views.spec, views.frames)
        heard = self.heard(views, clean, rest)
        with torch.no_grad():
            tokens = self.listen(self.taught_by, clean, views)
            taught: Logits = self.taught_head(tokens.pool("cls"), tokens.x[:, tokens.prefix :])
            targets = self.choices(taught)
            if self.training:
                self.clip_centre.observe(taught.clip, clean.valid[:, 0])
                self.patch_centre.observe(taught.patch, clean.valid)
        clip, patches = self.student(clean, heard, views)
        said = self.head(clip, patches)
        tau = self.config.temperature.student
        losses = asit_loss(
            said, targets, clean.valid, self.reconstruct(patches), clean.pixels, heard.mask, tau
        )
        return {**losses, **self.judged(said, targets, clean.valid)}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        config = self.config
        weights = {
            "clip": config.clip_weight,
            "patch": config.patch_weight,
            "pixel": config.pixel_weight,
        }
        return torch.stack([w * terms[name] for name, w in weights.items() if w]).sum()

    def start_step(self, step: int, total: int) -> None:
        """Set the teacher's temperature; it is part of the state, for validation uses it too."""
        self.tau.fill_(self.config.temperature.at(step, total))

    def end_step(self, step: int, total: int) -> None:
        """Teacher and centres follow."""
        super().end_step(step, total)
        self.clip_centre.update()
        self.patch_centre.update()

    # Its parts.

    def corruption_noise(self) -> int:
        """Uniform numbers that `heard` needs for a crop."""
        return corruption_noise(self.config.corruption, self.shape)

    def views(self, spec: Tensor, lengths: Tensor, noise: Tensor) -> tuple[Views, Tensor]:
        """Two crops of each clip, and the noise `(2 clips, k)` that is left for them."""
        noise = noise.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 1)
        return take_views(spec, lengths, noise[:, 0], self.shape[0]), noise[:, 1:]

    def heard(self, views: Views, clean: Patches, noise: Tensor) -> Heard:
        """The crops, corrupted; what is alien in a crop comes from the same crop of another."""
        config, front = self.config.corruption, self.encoder.config.front
        specs, reals, noises = (x.chunk(2) for x in (views.spec, self.usable(views, clean), noise))
        parts = [
            corrupt(spec, real, u, config, (front.mean, front.std))
            for spec, real, u in zip(specs, reals, noises, strict=True)
        ]
        spec, mask = (torch.cat(part) for part in zip(*parts, strict=True))
        return Heard(self.encoder.patches(spec, views.frames).pixels, self.cells(mask))

    def usable(self, views: Views, clean: Patches) -> Tensor:
        """Frames that belong to real tokens, int64 `(2 clips,)`."""
        return torch.minimum(columns(clean) * self.encoder.config.patch[1], views.frames)

    def cells(self, mask: Tensor) -> Tensor:
        """A mask of spectrograms `(2 clips, frames, bins)`, by token and pixel."""
        shape = self.encoder.config
        return cut(mask.float(), shape.patch, shape.stride) > 0.5

    def student(self, clean: Patches, heard: Heard, views: Views) -> tuple[Tensor, Tensor]:
        """What the student makes of the crops, `(2 clips, dim)`, and of their patches,
        `(2 clips, tokens, dim)`."""
        tokens = self.listen(self.encoder, clean._replace(pixels=heard.pixels), views)
        return tokens.pool("cls"), tokens.x[:, tokens.prefix :]

    def listen(self, encoder: Encoder, patches: Patches, views: Views) -> Tokens:
        """All tokens through an encoder."""
        pixels, grid, valid = patches
        where, ids = self.places(grid, views)
        return encoder.encode(encoder.embed_patches(pixels, where, index=ids), valid, grid)

    def places(self, grid: tuple[int, int], views: Views) -> tuple[tuple[int, int], Tensor | None]:
        """The grid that positions are counted in, and the ids of the crops' tokens there.

        A crop of the clip counts from the column in which it begins.
        """
        if self.config.places == "crop":
            return grid, None
        column = views.starts // self.encoder.config.stride[1]
        device = views.starts.device
        time = torch.arange(grid[1], device=device) + column.unsqueeze(1)
        rows = torch.arange(grid[0], device=device).view(-1, 1) * self.grid[1]
        return self.grid, (rows + time.unsqueeze(1)).flatten(1)

    def choices(self, logits: Logits) -> Logits:
        """The teacher's probabilities p."""
        return Logits(
            choices(logits.clip, self.clip_centre.value, self.tau),
            choices(logits.patch, self.patch_centre.value, self.tau),
        )

    @torch.no_grad()
    def judged(self, said: Logits, targets: Logits, valid: Tensor) -> dict[str, Tensor]:
        """What shows a collapse.

        Entropies of the targets, in nats: of their mean, near the logarithm of the number of
        prototypes if all are used, and their mean, which is lower if they are choices; their
        difference is `target_spread`, what a target tells of its patch. Lengths of the centres; and
        how often student and teacher choose the same prototype of a patch.
        """
        of_mean, mean = entropies(targets.patch, valid)
        clip_of_mean, clip_mean = entropies(targets.clip)
        same = (said.patch.argmax(-1) == targets.patch.argmax(-1)) & valid
        return {
            "clip_entropy_of_mean": clip_of_mean,
            "clip_entropy": clip_mean,
            "patch_entropy_of_mean": of_mean,
            "patch_entropy": mean,
            "clip_centre": self.clip_centre.value.norm(),
            "patch_centre": self.patch_centre.value.norm(),
            "agreement": same.sum() / valid.sum().clamp_min(1),
            "target_spread": of_mean - mean,
        }


def take_views(spec: Tensor, lengths: Tensor, noise: Tensor, frames: int) -> Views:
    """Two crops of each clip, at places that follow from noise.

    Args:
        spec: `(clips, frames, bins)`.
        lengths: int64 `(clips,)`, real frames.
        noise: uniform in [0, 1), `(2 clips,)`, all first crops first.
        frames: of a crop; a shorter clip is taken whole.
    """
    count = min(frames, spec.shape[1])
    lengths = lengths.repeat(2)
    starts = whole(noise, (lengths - frames).clamp_min(0) + 1)
    rows = torch.arange(len(spec), device=spec.device).repeat(2)
    place = starts.unsqueeze(1) + torch.arange(count, device=spec.device)
    return Views(spec[rows.unsqueeze(1), place], lengths.clamp_max(count), starts)


def choices(logits: Tensor, centre: Tensor, temperature: Tensor | float) -> Tensor:
    """p = softmax((t - C) / tau_t), over the last axis."""
    return ((logits - centre) / temperature).softmax(-1)


def asit_loss(
    said: Logits,
    targets: Logits,
    valid: Tensor,
    rebuilt: Tensor,
    clean: Tensor,
    corrupted: Tensor,
    temperature: float,
) -> dict[str, Tensor]:
    """The three losses, in fp32; rows are all first crops, then all second ones.

    Means are over all crops, patches and pixels of all processes.

    Args:
        said: the student's logits s.
        targets: the teacher's probabilities p.
        valid: bool `(2 clips, tokens)`, the real patches.
        rebuilt: `(2 clips, tokens, pixels)`, the r.
        clean: alike, the c.
        corrupted: bool, alike; the rest is not compared.
        temperature: tau_s.

    Returns:
        `clip` (L_g), `patch` (L_l), `pixel` (L_r).
    """
    with torch.autocast(rebuilt.device.type, enabled=False):
        q = Logits(*((s.float() / temperature).log_softmax(-1) for s in said))
        crops = len(valid)
        of_the_other = targets.clip.roll(crops // 2, 0)
        clip = -(of_the_other * q.clip).sum(-1)
        patch = -(targets.patch * q.patch).sum(-1)
        error = (rebuilt.float() - clean.float()).abs()
        # Not a product: what is not compared may be anything.
        pixel = torch.where(corrupted, error, 0.0)
        return {
            "clip": all_mean(clip.sum(), torch.full((), crops, device=clip.device)),
            "patch": all_mean(torch.where(valid, patch, 0.0).sum(), valid.sum()),
            "pixel": all_mean(pixel.sum(), corrupted.sum()),
        }
