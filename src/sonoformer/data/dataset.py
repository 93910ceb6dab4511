"""Items of a source as training clips: crops, targets and random numbers, keyed by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sonoformer.data.augment import DRAWS, AugmentConfig, mix
from sonoformer.data.batch import Batch
from sonoformer.data.keys import generator, numpy_generator
from sonoformer.data.order import Draw
from sonoformer.data.sources import ClipSource
from sonoformer.errors import AudioError, UserError

_TRIES = 10  # other items tried in the place of one that cannot be read


@dataclass(frozen=True, slots=True)
class Item:
    """A clip before collation: sound `(samples,)` as int16 or float32, and what goes with it."""

    wave: np.ndarray
    index: int
    targets: np.ndarray | None
    known: np.ndarray | None
    noise: Tensor | None
    draws: Tensor | None
    problems: list[str]


class ClipDataset(Dataset[Item]):
    """Clips for training or evaluation.

    Args:
        source: the sound.
        crop: longest clip in samples; longer items are cut, at a place keyed by (seed, epoch,
            position) in training and in the middle otherwise. None keeps items whole.
        seed: of crops, mixup and noise.
        train: crop at random and augment.
        targets: float `(items, classes)`.
        known: bool `(items, classes)`; all known by default.
        augment: waveform augmentation and the draws for the device's.
        noise: uniform numbers a clip for the learner (`Learner.noise`).
    """

    def __init__(
        self,
        source: ClipSource,
        *,
        crop: int | None,
        seed: int,
        train: bool,
        targets: np.ndarray | None = None,
        known: np.ndarray | None = None,
        augment: AugmentConfig = AugmentConfig(),
        noise: int = 0,
    ) -> None:
        if targets is not None and len(targets) != len(source):
            raise ValueError(f"{len(targets)} targets for {len(source)} items")
        self.source, self.crop, self.seed, self.train = source, crop, seed, train
        self.targets = None if targets is None else targets.astype(np.float32)
        self.known = known
        self.augment, self.noise = augment, noise

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> Item:
        problems: list[str] = []
        index = draw.index
        for _ in range(_TRIES):
            try:
                return self._item(draw, index, problems)
            except AudioError as error:
                problems.append(str(error))
                if not self.train:
                    raise
                # The next one in the list: as much a function of the place as the first choice.
                index = (index + 1) % len(self.source)
        raise UserError(f"{problems[-1]}; {_TRIES} recordings in a row cannot be read")

    def _item(self, draw: Draw, index: int, problems: list[str]) -> Item:
        place = (draw.epoch, draw.position)
        wave = self._crop(index, "crop", place)
        targets = None if self.targets is None else self.targets[index]
        known = None if self.known is None else self.known[index]
        if self.train and self.augment.mixup:
            random = numpy_generator(self.seed, "mixup", *place)
            if random.random() < self.augment.mixup:
                other = int(random.integers(len(self.source)))
                weight = random.beta(self.augment.mixup_alpha, self.augment.mixup_alpha)
                wave = mix(_as_float(wave), _as_float(self._crop(other, "partner", place)), weight)
                if targets is not None and self.targets is not None:
                    targets = weight * targets + (1 - weight) * self.targets[other]
                if known is not None and self.known is not None:
                    known = known & self.known[other]
        noise = self._uniform(self.noise, "noise", draw) if self.noise else None
        wants_draws = self.train and self.augment.on_spectrogram
        draws = self._uniform(DRAWS, "augment", draw) if wants_draws else None
        return Item(wave, index, targets, known, noise, draws, problems)

    def _crop(self, index: int, stream: str, place: tuple[int, int]) -> np.ndarray:
        length = int(self.source.lengths[index])
        if self.crop is None or length <= self.crop:
            return self.source.read(index, 0, length)
        spare = length - self.crop
        if not self.train:
            return self.source.read(index, spare // 2, self.crop)
        start = numpy_generator(self.seed, stream, *place).integers(spare + 1)
        return self.source.read(index, int(start), self.crop)

    def _uniform(self, count: int, stream: str, draw: Draw) -> Tensor:
        # Outside training the numbers follow the row, so that every evaluation sees the same.
        place = (draw.epoch, draw.position) if self.train else (-1, draw.index)
        return torch.rand(count, generator=generator(self.seed, stream, *place))


def collate(items: Sequence[Item]) -> Batch:
    """Items -> a batch, padded with zeros to the longest."""
    lengths = torch.tensor([len(item.wave) for item in items])
    whole = all(item.wave.dtype == np.int16 for item in items)
    wave = torch.zeros(
        len(items), int(lengths.max()), dtype=torch.int16 if whole else torch.float32
    )
    rows = wave.numpy()
    for row, item in zip(rows, items, strict=True):
        row[: len(item.wave)] = item.wave if whole else _as_float(item.wave)
    return Batch(
        wave=wave,
        lengths=lengths,
        index=torch.tensor([item.index for item in items]),
        targets=_stack([item.targets for item in items]),
        known=_stack([item.known for item in items]),
        noise=_stack([item.noise for item in items]),
        draws=_stack([item.draws for item in items]),
        problems=[problem for item in items for problem in item.problems],
    )


def _stack(values: Sequence[np.ndarray | Tensor | None]) -> Tensor | None:
    present = [torch.as_tensor(value) for value in values if value is not None]
    if not present:
        return None
    stacked = torch.stack(present)
    return stacked.float() if stacked.is_floating_point() else stacked


def _as_float(wave: np.ndarray) -> np.ndarray:
    return wave.astype(np.float32) / 32768 if wave.dtype == np.int16 else wave
