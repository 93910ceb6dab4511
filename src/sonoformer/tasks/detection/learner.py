"""Learning which classes are heard when, from recordings with strong labels."""

from __future__ import annotations

import torch
from torch import Tensor

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.augment import AugmentConfig
from sonoformer.data.batch import Batch
from sonoformer.nn.reduce import all_mean
from sonoformer.tasks.classification import Classifier, ClassifierConfig, binary_cross_entropy
from sonoformer.tasks.detection.heads import Frames
from sonoformer.tasks.detection.model import Detector


class Tagger(Classifier):
    """A `Detector` that learns from targets for every column.

    The loss is the binary cross-entropy over the columns of real sound in which a class is known;
    for head `full`, where events have a band, plus that over the tokens.

    Args:
        model, config, adaptation, augment, steps_per_epoch: as `Classifier`.
        positive_weight: `(classes,)` weight of a present class.
    """

    def __init__(
        self,
        model: Detector,
        config: ClassifierConfig = ClassifierConfig(),
        adaptation: AdaptationConfig = AdaptationConfig(),
        augment: AugmentConfig = AugmentConfig(),
        positive_weight: Tensor | None = None,
        steps_per_epoch: float = 1.0,
    ) -> None:
        super().__init__(model, config, adaptation, augment, positive_weight, steps_per_epoch)
        self._detector = (model,)

    def frames(self, batch: Batch) -> Frames:
        """What the model says of each column; spectrograms are augmented in training."""
        return self._detector[0].frames(*self.spectrograms(batch))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and F1 over the columns of the (augmented) training crops at score 0.5."""
        found = self.frames(batch)
        total, (hits, count) = self._losses(found, batch), _agreement(found, batch)
        return total, {"f1": all_mean(hits, count)}

    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss (no weights, no smoothing), and F1 over columns at score 0.5."""
        found = self.frames(batch)
        _, known = _labels(found, batch)
        count = known.sum()
        loss = self._losses(found, batch, plain=True)
        return {"loss": (loss * count, count), "f1": _agreement(found, batch)}

    def _losses(self, found: Frames, batch: Batch, *, plain: bool = False) -> Tensor:
        target, known = _labels(found, batch)
        options = {
            "weight": None if plain else self.class_weight,
            "smoothing": 0.0 if plain else self.config.label_smoothing,
        }
        logits = found.logits[:, : target.shape[1]]
        total = binary_cross_entropy(logits, target, known, **options)  # type: ignore[arg-type]
        assert batch.targets is not None
        if found.cells is not None and batch.targets.ndim == 4:
            cells, sure = _of_cells(found, batch)
            rows = found.cells[:, : cells.shape[1]]
            total = total + binary_cross_entropy(rows, cells, sure, **options)  # type: ignore[arg-type]
        return total


def _labels(found: Frames, batch: Batch) -> tuple[Tensor, Tensor]:
    """Targets of the columns and what is known of them, `(batch, columns, classes)`."""
    assert batch.targets is not None
    assert batch.known is not None
    target, known = batch.targets, batch.known
    if target.ndim == 4:
        target, known = target[:, :, 0], known[:, :, 0]
    columns = min(found.logits.shape[1], target.shape[1])
    return target[:, :columns], known[:, :columns] & found.valid[:, :columns, None]


def _of_cells(found: Frames, batch: Batch) -> tuple[Tensor, Tensor]:
    """As `_labels`, of the tokens: `(batch, columns, rows, classes)`."""
    assert batch.targets is not None
    assert batch.known is not None
    columns = min(found.logits.shape[1], batch.targets.shape[1])
    valid = found.valid[:, :columns, None, None]
    return batch.targets[:, :columns, 1:], batch.known[:, :columns, 1:] & valid


def _agreement(found: Frames, batch: Batch) -> tuple[Tensor, Tensor]:
    """Twice the hits, and present plus predicted: their ratio is F1 over all columns."""
    target, known = _labels(found, batch)
    there = (target >= 0.5) & known
    said = (found.logits.detach()[:, : target.shape[1]] >= 0) & known
    return 2 * (there & said).sum().float(), (there.sum() + said.sum()).to(torch.float32)
