"""Masked spectrogram patch modelling (SSAST, AAAI 2022, section 2 and algorithm 1).

Some tokens of a clip are hidden from the encoder. For each hidden token i, one head predicts a
vector c_i by which the true patch x_i should be told from the other hidden patches of the clip
(equation 1), another a vector r_i that should equal x_i (equation 2):

    L_d = - 1/N sum_i log [ exp(c_i . x_i) / sum_j exp(c_i . x_j) ]
    L_g =   1/N sum_i || r_i - x_i ||^2 / pixels
    L   = L_d + weight * L_g

x_i are the raw normalised pixels of the patch; there is no temperature and no length is normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.errors import UserError
from sonoformer.nn.heads import PredictionHead
from sonoformer.nn.masks import Mask, Masking, draw_mask, noise_count
from sonoformer.nn.subsets import clip_mean, gather
from sonoformer.nn.tokens import Encoder, Patches
from sonoformer.pretraining.objective import Objective, columns

Direction = Literal["prediction", "target", "both"]


@dataclass(frozen=True)
class MspmConfig:
    """Masked spectrogram patch modelling."""

    mask_ratio: float = 400 / 512
    """Share of a clip's real tokens that is hidden; SSAST hides 400 of 512."""
    masking: Literal["auto", "centred", "random", "reference"] = "auto"
    """centred: squares of 3 to 5 patches; random: single tokens; auto: centred, but random for
    tokens as high as the spectrogram; reference: the authors' biased squares, and random likewise.
    """
    loss: Literal["joint", "discriminative", "generative"] = "joint"
    """Tell the hidden patches apart, rebuild them, or both."""
    direction: Direction = "prediction"
    """prediction: each prediction chooses among the patches, as the paper says; target: each patch
    among the predictions, as the authors' program does; both: the mean of the two."""
    passes: Literal[1, 2] = 1
    """Forward passes of a joint step: 1 shares one mask, 2 draws one for each loss, as the authors'
    program does, at twice the cost."""
    weight: float = 10.0
    """Weight of the generative loss in the joint one (lambda in the paper)."""
    drop_duplicates: bool = True
    """Leave patches equal to the right one, such as digital silence, out of the wrong answers."""
    head: Literal["mlp", "linear"] = "mlp"
    """What predicts pixels from a token: two layers, or one."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise UserError(f"mask_ratio: must be between 0 and 1; got {self.mask_ratio}.")
        if not self.weight > 0:
            raise UserError(f"weight: must be above 0; got {self.weight}.")
        if self.passes == 2 and self.loss != "joint":
            raise UserError(f"passes: 2 needs the joint loss, but loss is {self.loss!r}.")

    @classmethod
    def reference(cls) -> MspmConfig:
        """What the authors' program does, where it differs from the paper or can be improved."""
        return cls(masking="reference", direction="target", passes=2, drop_duplicates=False)


class Mspm(Objective):
    """An encoder learning by masked spectrogram patch modelling.

    Args:
        encoder: gives tokens; its front end and positions are part of it.
        config: the options.
        samples: length of the longest clip, which sets how much noise a clip needs.
    """

    title = "Masked spectrogram patch modelling"

    def __init__(self, encoder: Encoder, config: MspmConfig, samples: int) -> None:
        super().__init__(encoder, samples)
        self.config = config
        self.law = _law(config.masking, self.grid)
        self.masked_views = config.passes
        self.noise = config.passes * noise_count(self.law, self.grid)
        self.mask_token = nn.Parameter(torch.randn(encoder.dim) * encoder.dim**-0.5)
        kind = PredictionHead if config.head == "mlp" else nn.Linear
        if config.loss != "generative":
            self.classify = kind(encoder.dim, self.pixels)
        if config.loss != "discriminative":
            self.reconstruct = kind(encoder.dim, self.pixels)

    def terms_of(self, batch: Batch) -> dict[str, Tensor]:
        """`info_nce`, `accuracy`, `chance` and `mse` as far as they are computed."""
        patches = self.cut(batch)
        return self.terms(patches, self.masks(self.random(batch), patches))

    def masks(self, noise: Tensor, patches: Patches) -> list[Mask]:
        """A mask for each pass, from noise `(batch, self.noise)`."""
        real = columns(patches)
        ratio = self.config.mask_ratio
        return [
            draw_mask(part, real, patches.grid, ratio, self.law)
            for part in noise.chunk(self.config.passes, dim=1)
        ]

    def terms(self, patches: Patches, masks: Sequence[Mask]) -> dict[str, Tensor]:
        """The losses and what they are judged by, each a mean over clips, for given masks."""
        targets = patches.pixels.detach()
        states = [self._hidden_states(patches, mask) for mask in masks]
        terms = {}
        if self.config.loss != "generative":
            mask = masks[0]
            terms["info_nce"], terms["accuracy"], terms["chance"] = info_nce(
                self.classify(states[0]),
                gather(targets, mask.ids),
                mask.keep,
                self.config.direction,
                self.config.drop_duplicates,
            )
        if self.config.loss != "discriminative":
            mask = masks[-1]
            prediction = self.reconstruct(states[-1])
            terms["mse"] = generative_mse(prediction, gather(targets, mask.ids), mask.keep)
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        if self.config.loss == "joint":
            return terms["info_nce"] + self.config.weight * terms["mse"]
        return terms["info_nce" if self.config.loss == "discriminative" else "mse"]

    def _hidden_states(self, patches: Patches, mask: Mask) -> Tensor:
        """The encoder's outputs `(batch, most, dim)` at the tokens it was not shown."""
        pixels, grid, valid = patches
        replace = mask.dense(pixels.shape[1]), self.mask_token
        tokens = self.encoder.encode(
            self.encoder.embed_patches(pixels, grid, replace=replace), valid, grid
        )
        return gather(tokens.x, mask.ids + tokens.prefix)


def info_nce(
    pred: Tensor,
    target: Tensor,
    keep: Tensor,
    direction: Direction = "prediction",
    drop_duplicates: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tell each hidden patch from the other hidden patches of its clip, in fp32.

    Args:
        pred: `(batch, n, pixels)`, the c_i.
        target: `(batch, n, pixels)`, the x_i.
        keep: bool `(batch, n)`; the rest neither asks nor answers.
        direction: over what the softmax is taken, see `MspmConfig`. The authors know that theirs is
            not the paper's and kept it to reproduce their results.
        drop_duplicates: leave answers j whose patch is bit for bit that of i out of i's softmax:
            nothing can tell them apart, so they would only pull the scores of both down.

    Returns:
        Means over clips of: the loss in nats; the accuracy of choosing the patch for a prediction;
        and the accuracy of a blind choice, 1 / number of answers to choose from. The choice is the
        patch of largest score, but with direction `target`, as in the authors' program, the one of
        largest score after the softmax over predictions.
    """
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = pred.float(), target.detach().float()
        count = pred.shape[1]
        excluded = _excluded(target, keep, drop_duplicates)

        def log_probability(rows: Tensor, columns: Tensor) -> Tensor:
            scores = torch.bmm(rows, columns.mT)
            if excluded is not None:
                scores = scores.masked_fill_(excluded, -torch.inf)
            return scores.log_softmax(2)

        losses = []
        if direction != "prediction":
            of_predictions = log_probability(target, pred)
            losses.append(-of_predictions.diagonal(dim1=1, dim2=2))
            best = of_predictions.detach().argmax(1)
        if direction != "target":
            of_targets = log_probability(pred, target)
            losses.append(-of_targets.diagonal(dim1=1, dim2=2))
            best = of_targets.detach().argmax(2)
        right = best == torch.arange(count, device=pred.device)
        choices = torch.full_like(keep, count, dtype=torch.float32)
        if excluded is not None:
            choices = choices - excluded.sum(2)
        return (
            clip_mean(torch.stack(losses).mean(0), keep),
            clip_mean(right.float(), keep),
            clip_mean(1 / choices, keep),
        )


def generative_mse(pred: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Mean over clips, hidden tokens and pixels of (r_i - x_i)^2, in fp32.

    Args:
        pred: `(batch, n, pixels)`, the r_i.
        target: `(batch, n, pixels)`, the x_i.
        keep: bool `(batch, n)`; the rest does not count.
    """
    with torch.autocast(pred.device.type, enabled=False):
        error = F.mse_loss(pred.float(), target.detach().float(), reduction="none")
        return clip_mean(error.mean(-1), keep)


def _law(masking: str, grid: tuple[int, int]) -> Masking:
    # With one row of tokens there are no squares; the authors then hide single tokens.
    if masking == "auto":
        return "random" if grid[0] == 1 else "centred"
    if masking == "reference" and grid[0] == 1:
        return "random"
    return masking  # type: ignore[return-value]


def _excluded(target: Tensor, keep: Tensor, drop_duplicates: bool) -> Tensor | None:
    """Which answers are not offered, bool `(batch, n, n)`, symmetric; None where that is none.

    A token always keeps its own answer. Only on the CPU is it worth to find out that there is none.
    """
    cheap = target.device.type == "cpu"
    outside = None if cheap and bool(keep.all()) else ~keep
    prints = _fingerprints(target) if drop_duplicates else None
    if cheap and prints is not None and not bool((prints.sort(1).values.diff(dim=1) == 0).any()):
        prints = None
    excluded = None
    if outside is not None:
        excluded = outside.unsqueeze(1) | outside.unsqueeze(2)
    if prints is not None:
        equal = prints.unsqueeze(1) == prints.unsqueeze(2)
        excluded = equal if excluded is None else excluded | equal
    if excluded is not None:
        excluded.diagonal(dim1=1, dim2=2).fill_(False)
    return excluded


def _fingerprints(target: Tensor) -> Tensor:
    """int64 `(batch, n)`: equal for patches equal in every bit, and for others by chance only.

    A sum of the bit patterns with random odd weights, modulo 2^64; two given patches that differ
    collide with probability below 2^-31, and then one wrong answer is missed.
    """
    generator = torch.Generator().manual_seed(20211019)
    weights = torch.randint(-(2**62), 2**62, (target.shape[-1],), generator=generator) * 2 + 1
    bits = target.contiguous().view(torch.int32).long()
    return (bits * weights.to(bits.device)).sum(-1)
