"""Items of a source as training clips: crops, targets and random numbers, keyed by place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sonoformer.data.augment import DRAWS, AugmentConfig, change_level, mix, roll
from sonoformer.data.batch import Batch
from sonoformer.data.keys import below, key, numpy_generator, uniforms
from sonoformer.data.order import Draw
from sonoformer.data.sources import FULL_SCALE, ClipSource
from sonoformer.errors import AudioError, UserError

_TRIES = 32  # other items tried in the place of one that cannot be read

Crops = Literal["random", "first"]
Place = tuple[int, int]
"""Epoch and position, or -1 and the row outside training: what random numbers are keyed by."""
Labelled = tuple[int, np.ndarray, np.ndarray | None, np.ndarray | None]
"""An item's number, its sound, its targets, and what is known of them."""
Allocate = Callable[[tuple[int, int], torch.dtype], Tensor]
"""Makes a tensor for waveforms, of any content."""


@dataclass(frozen=True, slots=True)
class Item:
    """A clip before collation: sound `(samples,)` as int16 or float32, and what goes with it."""

    wave: np.ndarray
    index: int
    targets: np.ndarray | None
    known: np.ndarray | None
    noise: np.ndarray | None
    draws: np.ndarray | None
    problems: list[str]


class ClipDataset(Dataset[Item]):
    """Clips for training or evaluation.

    Args:
        source: the sound.
        crop: longest clip in samples; longer items are cut. None keeps items whole.
        seed: of crops, mixup and noise.
        train: crop at random and augment; an item that cannot be read is replaced by another,
            keyed like everything else, and listed in `Batch.problems`.
        targets: float `(items, classes)`.
        known: bool `(items, classes)`; all known by default.
        augment: waveform augmentation and the draws for the device's.
        noise: uniform numbers a clip for the learner (`Learner.noise`).
        crops: where items are cut. random: at a place keyed by (seed, epoch, position) in training,
            and in the middle otherwise; first: at their beginning always, as the authors of SSAST
            do.
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
        crops: Crops = "random",
    ) -> None:
        for name, table in (("targets", targets), ("known", known)):
            if table is not None and len(table) != len(source):
                raise ValueError(f"{len(table)} {name} for {len(source)} items")
        if crops not in get_args(Crops):
            raise ValueError(f"crops is 'random' or 'first', not {crops!r}")
        self.source, self.crop, self.seed, self.train = source, crop, seed, train
        self.targets = None if targets is None else targets.astype(np.float32)
        self.known = known
        self.augment, self.noise, self.crops = augment, noise, crops

    def __len__(self) -> int:
        return len(self.source)

    @property
    def lengths(self) -> np.ndarray:
        """`(items,)` samples of the clips, for `Order` and for padding."""
        lengths = self.source.lengths
        return lengths if self.crop is None else np.minimum(lengths, self.crop)

    def __getitem__(self, draw: Draw) -> Item:
        """The clip at a place.

        Raises:
            AudioError: it cannot be read (outside training only).
            UserError: in training, when no other item can be read either.
        """
        problems: list[str] = []
        # Outside training the numbers follow the row, so that every evaluation sees the same.
        place = (draw.epoch, draw.position) if self.train else (-1, draw.index)
        index, wave, targets, known = self._labelled(draw.index, self.crop, "crop", place, problems)
        if self.train:
            wave, targets, known = self._augmented(wave, targets, known, place, problems)
        noise = draws = None
        if self.noise:
            noise = uniforms(key(self.seed, "noise", *place), self.noise)
        if self.train and self.augment.on_spectrogram:
            draws = uniforms(key(self.seed, "augment", *place), DRAWS)
        return Item(wave, index, targets, known, noise, draws, problems)

    def _labelled(
        self, index: int, most: int | None, stream: str, place: Place, problems: list[str]
    ) -> Labelled:
        """As `_read`, with what is said of the item."""
        index, wave = self._read(index, most, stream, place, problems)
        targets = None if self.targets is None else self.targets[index]
        known = None if self.known is None else self.known[index]
        return index, wave, targets, known

    def _read(
        self, index: int, most: int | None, stream: str, place: Place, problems: list[str]
    ) -> tuple[int, np.ndarray]:
        """A crop of item `index`, or in training of the first readable one that stands in."""
        for attempt in range(_TRIES):
            try:
                return index, self._crop(index, most, stream, place)
            except AudioError as error:
                if not self.train:
                    raise
                problems.append(str(error))
                index = below(len(self), self.seed, f"instead of {stream}", *place, attempt)
        raise UserError(f"{problems[-1]}; {_TRIES} recordings in a row cannot be read")

    def _crop(self, index: int, most: int | None, stream: str, place: Place) -> np.ndarray:
        length = int(self.source.lengths[index])
        if most is None or length <= most:
            return self.source.read(index, 0, length)
        spare = length - most
        if self.crops == "first":
            start = 0
        else:
            start = below(spare + 1, self.seed, stream, *place) if self.train else spare // 2
        return self.source.read(index, start, most)

    def _augmented(
        self,
        wave: np.ndarray,
        targets: np.ndarray | None,
        known: np.ndarray | None,
        place: Place,
        problems: list[str],
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        config = self.augment
        if config.mixup:
            random = numpy_generator(self.seed, "mixup", *place)
            if random.random() < config.mixup:
                other = below(len(self), self.seed, "partner", *place)
                share = random.beta(config.mixup_alpha, config.mixup_alpha)
                _, partner, theirs, sure = self._labelled(
                    other, len(wave), "partner crop", place, problems
                )
                wave = mix(_as_float(wave), _as_float(partner), share)
                if targets is not None and theirs is not None:
                    targets = np.float32(share) * targets
                    targets = targets + np.float32(1 - share) * theirs
                if known is not None and sure is not None:
                    known = known & sure
        if config.roll:
            wave = roll(wave, below(len(wave), self.seed, "roll", *place))
        if config.gain_db:
            unit = float(uniforms(key(self.seed, "gain", *place), 1)[0])
            wave = change_level(_as_float(wave), (2 * unit - 1) * config.gain_db)
        return wave, targets, known


def _new(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def collate(items: Sequence[Item], allocate: Allocate = _new) -> Batch:
    """Items -> a batch, padded with zeros to the longest.

    Waveforms stay 16-bit when all are; `Batch.prepared` makes them float32.

    Args:
        items: the clips.
        allocate: where the waveforms go.
    """
    lengths = torch.tensor([len(item.wave) for item in items])
    whole = all(item.wave.dtype == np.int16 for item in items)
    shape = (len(items), int(lengths.max()))
    wave = allocate(shape, torch.int16 if whole else torch.float32)
    for row, item in zip(wave.numpy(), items, strict=True):
        row[: len(item.wave)] = item.wave if whole else _as_float(item.wave)
        row[len(item.wave) :] = 0
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


def _stack(values: Sequence[Any]) -> Tensor | None:
    return None if values[0] is None else torch.from_numpy(np.stack(values))


def _as_float(wave: np.ndarray) -> np.ndarray:
    if wave.dtype != np.int16:
        return wave
    return np.multiply(wave, np.float32(1 / FULL_SCALE), dtype=np.float32)
