"""Classification of clips: one class each, or any number of them.

Both losses take soft targets, so that clips mixed by mixup keep their mixed labels. (The SSAST and
AST programs take the argmax of such labels under cross-entropy, which turns them into the first
class.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sonoformer.adaptation.parameters import AdaptationConfig, freeze, parameter_groups
from sonoformer.data.augment import AugmentConfig, augment_spectrogram
from sonoformer.data.batch import Batch
from sonoformer.errors import UserError
from sonoformer.nn.reduce import all_mean
from sonoformer.nn.tokens import Pooling
from sonoformer.tasks.frozen import Kept
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model
from sonoformer.training.learner import Learner


@dataclass(frozen=True)
class ClassifierConfig:
    """Head, loss and targets of a classifier."""

    task: Literal["auto", "single", "multi", "events"] = "auto"
    """single: exactly one class a clip; multi: any number; events: which classes are heard when, in
    recordings, see `events`. auto: multi if a clip has several labels, else single."""
    loss: Literal["auto", "ce", "bce"] = "auto"
    """ce: cross-entropy over classes; bce: binary cross-entropy for each. auto: ce for single, bce
    for multi. bce for single is what SSAST uses on Speech Commands."""
    head: Literal["norm_linear", "probe", "weighted"] = "norm_linear"
    """norm_linear: LayerNorm and a linear layer on pooled tokens (AST, SSAST), from random weights;
    probe: a linear layer that starts as a probe of the frozen encoder, whose features training then
    changes less (Kumar et al. 2022); weighted: SUPERB's learned mix of all blocks."""
    pool: Literal["auto", "mean", "cls", "bands", "bands_std"] = "auto"
    """mean: average of the tokens of real sound (SSAST); cls: average of cls and dist (AST); bands:
    an average over time for each frequency row; bands_std: with the standard deviation over time.
    auto: bands_std for a probe and a head that starts as one, else mean."""
    layers: tuple[int, ...] | None = None
    """Blocks, from 0, whose outputs are pooled and put together; the final output if absent."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes; 0.1 is usual for few clips."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weigh classes by the inverse of how often they occur."""
    drop_path: float = 0.0
    """Probability that a clip skips a block in training; rises linearly to this over the blocks."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"label_smoothing: must be at least 0 and below 1; got {self.label_smoothing}."
            )
        if not 0 <= self.drop_path < 1:
            raise UserError(f"drop_path: must be at least 0 and below 1; got {self.drop_path}.")
        if self.task == "multi" and self.loss == "ce":
            raise UserError("loss: ce allows one class a clip only; use bce for task multi.")
        if self.task == "events" and (self.loss == "ce" or self.class_weights != "none"):
            raise UserError(
                "loss, class_weights: events have bce, weighed by --events.positive-weight."
            )
        if self.task == "events" and (self.head, self.pool) != ("norm_linear", "auto"):
            raise UserError("head, pool: are of whole clips; for events see --events.head.")

    def is_single(self, multi_label: bool) -> bool:
        """Whether exactly one class a clip is right, given whether any clip has several labels.

        Raises:
            UserError: a clip has several labels, but the task or the loss allows one.
        """
        if self.task == "events":
            return False
        if multi_label and (self.task == "single" or self.loss == "ce"):
            option = "task" if self.task == "single" else "loss"
            raise UserError(f"{option}: clips have several labels; use task multi with loss bce.")
        return not multi_label if self.task == "auto" else self.task == "single"

    def pooling(self, probe: bool = False) -> Pooling:
        """The pooling that `pool` means in training, or for a probe."""
        if self.pool != "auto":
            return self.pool
        return "bands_std" if probe or self.head == "probe" else "mean"

    def head_config(self, single: bool, *, probe: bool = False) -> HeadConfig:
        """The head of a model for this task."""
        if probe:
            return HeadConfig("linear", self.pooling(probe=True), self.layers, single, single)
        softmax = single and self.loss != "bce"
        kind = "linear" if self.head == "probe" else self.head
        return HeadConfig(kind, self.pooling(), self.layers, single, softmax)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    known: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean over labelled clips of -sum_c w_c t_c log softmax(logits)_c.

    With weights the sum is divided by the number of clips, not by the sum of weights: then every
    batch's gradient is an unbiased estimate, also in small batches.

    Args:
        logits: `(batch, classes)`.
        targets: `(batch, classes)`, rows that sum to 1; mixed labels are soft.
        known: bool `(batch, classes)`; clips with an unknown class do not count.
        weight: `(classes,)`.
        smoothing: share of the target that is spread evenly.
    """
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    if weight is not None:
        targets = targets * weight
    each = -(targets * logits.float().log_softmax(1)).sum(1)
    if known is None:
        return each.mean()
    return _mean_where(each, known.all(1))


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    known: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean over known cells of the binary cross-entropy; an unlabelled cell is no negative.

    Args:
        logits: `(batch, classes)`.
        targets: `(batch, classes)` in [0, 1].
        known: bool `(batch, classes)`; all by default.
        weight: `(classes,)` weight of a class's positive part.
        smoothing: targets are drawn to one half by this share.
    """
    targets = targets * (1 - smoothing) + smoothing / 2
    each = F.binary_cross_entropy_with_logits(
        logits.float(), targets, pos_weight=weight, reduction="none"
    )
    return each.mean() if known is None else _mean_where(each, known)


def _mean_where(values: Tensor, keep: Tensor) -> Tensor:
    """Mean of `values` where `keep` is true, over all processes; zero where nothing is kept."""
    return all_mean(torch.where(keep, values, torch.zeros_like(values)).sum(), keep.sum())


def label_ranking_precision(
    scores: Tensor, targets: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum and count, over present labels, of the precision at the label's rank in its clip.

    The label-weighted label-ranking average precision (lwlrap). Unlike mAP it is a mean over clips
    and can be added up batch by batch, so it is what validation watches for several labels.
    """
    scores = scores.masked_fill(~known, float("-inf"))
    above = scores.unsqueeze(1) >= scores.unsqueeze(2)  # (batch, label, class scored at least so)
    present = targets.bool() & known
    hits = (above & present.unsqueeze(1)).sum(2)
    precision = hits / (above & known.unsqueeze(1)).sum(2).clamp_min(1)
    return (precision * present).sum(), present.sum()


class Classifier(Learner):
    """A `Model` that learns its task.

    Args:
        model: encoder and head; trained in place.
        config: head and loss.
        adaptation: which weights train.
        augment: augmentation of the spectrograms in training.
        class_weight: `(classes,)` weights in the loss.
        steps_per_epoch: optimiser steps an epoch, for `AdaptationConfig.freeze_epochs`.

    Attributes:
        kept: what batches hold in the place of sound, see `tasks.frozen`; None for sound.
    """

    kept: Kept | None = None

    def __init__(
        self,
        model: Model,
        config: ClassifierConfig = ClassifierConfig(),
        adaptation: AdaptationConfig = AdaptationConfig(),
        augment: AugmentConfig = AugmentConfig(),
        class_weight: Tensor | None = None,
        steps_per_epoch: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.head = model.encoder, model.head
        # Not a submodule: its weights are the encoder's and the head's.
        self._model = (model,)
        self.config, self.adaptation, self.augment = config, adaptation, augment
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.warm_steps = round(adaptation.freeze_epochs * steps_per_epoch)
        # Blocks that are pooled may leave out the last ones, and the norm after them.
        self.uneven = bool(self.warm_steps) or bool(config.layers) or config.head == "weighted"

    class_weight: Tensor | None

    @property
    def model(self) -> Model:
        """The model, to be saved or used."""
        return self._model[0]

    def spectrograms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`(batch, frames, bins)` and `(batch,)` frames; augmented in training."""
        spec, frames = self.encoder.front(batch.wave, batch.lengths)  # type: ignore[operator]
        if self.training and self.augment.on_spectrogram:
            assert batch.draws is not None
            zero = self.encoder.front_end.raw_zero  # type: ignore[union-attr]
            spec = augment_spectrogram(spec, frames, batch.draws, self.augment, zero)  # type: ignore[arg-type]
        return spec, frames

    def logits(self, batch: Batch) -> Tensor:
        """`(batch, classes)`; spectrograms are augmented in training."""
        if self.kept is not None:
            return self.kept.logits(self.model, batch)
        return self.model.logits(*self.spectrograms(batch))

    def _loss(self, logits: Tensor, batch: Batch, *, plain: bool = False) -> Tensor:
        assert batch.targets is not None
        function = cross_entropy if self.model.softmax else binary_cross_entropy
        weight = None if plain else self.class_weight
        smoothing = 0.0 if plain else self.config.label_smoothing
        return function(logits, batch.targets, batch.known, weight=weight, smoothing=smoothing)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the accuracy on the (augmented) training clips where it has a meaning."""
        logits = self.logits(batch)
        loss = self._loss(logits, batch)
        if not self.model.single:
            return loss, {}
        right, count = self._accuracy(logits.detach(), batch)
        return loss, {"accuracy": all_mean(right.float(), count)}

    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss (no weights, no smoothing), and accuracy (single) or lwlrap (multi)."""
        assert batch.targets is not None
        logits = self.logits(batch)
        known = batch.known
        if known is None:
            known = torch.ones_like(batch.targets, dtype=torch.bool)
        count = known.all(1).sum() if self.model.softmax else known.sum()
        sums = {"loss": (self._loss(logits, batch, plain=True) * count, count)}
        if self.model.single:
            return sums | {"accuracy": self._accuracy(logits, batch)}
        return sums | {"lwlrap": label_ranking_precision(logits.float(), batch.targets, known)}

    def _accuracy(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.targets is not None
        right = logits.argmax(1) == batch.targets.argmax(1)
        labelled = batch.targets.sum(1) > 0
        if batch.known is not None:
            labelled = labelled & batch.known.all(1)
        return (right & labelled).sum(), labelled.sum()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """As `adaptation` says."""
        return parameter_groups(self.encoder, self.head, self.adaptation, lr)

    def start_step(self, step: int, total: int) -> None:
        """Let the encoder join after the epochs in which the head trains alone."""
        if self.warm_steps:
            freeze(self.encoder, self.adaptation, warming=step < self.warm_steps)
