"""Crops of recordings with strong labels: the right share of events, and targets for each cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.augment import AugmentConfig
from sonoformer.data.dataset import ClipDataset, Labelled, Place
from sonoformer.data.keys import below, key, uniforms
from sonoformer.data.sources import ClipSource
from sonoformer.data.strong import Event, Truth
from sonoformer.data.views import Parts
from sonoformer.errors import UserError

Cells = Callable[[int, float], NDArray[np.float64]]
"""Number of cells, beginning in seconds -> their borders `(cells + 1,)` in seconds."""


def pieces(source: ClipSource, truth: Truth, crop: int) -> Parts:
    """What is known of recordings, in pieces of at least `crop` and less than twice as many
    samples; shorter stretches are one piece each. A random crop of each passes over it all."""
    rows, begins, lengths = [], [], []
    for item in range(len(source)):
        for start, end in truth.known_stretches(item):
            first = round(start * source.sample_rate)
            samples = min(round(end * source.sample_rate), int(source.lengths[item])) - first
            count = max(1, samples // crop)
            borders = first + samples * np.arange(count + 1) // count
            if samples > 0:
                rows += [item] * count
                begins += borders[:-1].tolist()
                lengths += np.diff(borders).tolist()
    if not rows:
        raise UserError("the training recordings have no stretch of which anything is known")
    return Parts(source, *(np.array(column, np.int64) for column in (rows, begins, lengths)))


def windows(source: ClipSource, truth: Truth, crop: int) -> Parts:
    """What is known of recordings as windows of `crop` samples that cover it evenly."""
    rows, begins, lengths = [], [], []
    for item in range(len(source)):
        size = int(source.lengths[item])
        for start, end in truth.known_stretches(item):
            first = round(start * source.sample_rate)
            samples = min(round(end * source.sample_rate), size) - first
            if samples <= 0:
                continue
            count = -(-samples // crop)
            places = np.linspace(first, max(first, first + samples - crop), count).astype(int)
            rows += [item] * count
            begins += places.tolist()
            lengths += np.minimum(crop, size - places).tolist()
    return Parts(source, *(np.array(column, np.int64) for column in (rows, begins, lengths)))


@dataclass(frozen=True)
class Cut:
    """How crops are drawn and told apart.

    Attributes:
        samples: length of a crop.
        columns: cells of a crop.
        cells: borders of cells.
        share: of the crops in training that hold part of an event; the others pass over everything
            that is known, and may hold one too.
        balanced: events of rare classes come as often as those of common ones; else every event
            has the same chance.
        row_hertz: `(rows, 2)` band of each token row, for targets on the grid of tokens.
    """

    samples: int
    columns: int
    cells: Cells
    share: float = 0.5
    balanced: bool = False
    row_hertz: NDArray[np.float64] | None = None


class EventCrops(ClipDataset):
    """Crops with a target for every cell.

    `Batch.targets` is `(batch, columns, classes)`, padded to the columns of a whole crop. With
    `row_hertz` it is `(batch, columns, 1 + rows, classes)`: the column's own target first, then
    those of its token rows, known where every event's band is. Cells past a recording's end count
    as known and absent; the model leaves them out as padding.

    Args:
        parts: `pieces` in training, `windows` otherwise.
        truth: of the recordings that the parts are of.
        cut: how crops are made.
        seed, train, augment: as `ClipDataset`; where and what a crop is follows from (seed, epoch,
            position) alone.

    Raises:
        UserError: an augmentation that moves sound in time, where the labels would stay.
    """

    def __init__(
        self,
        parts: Parts,
        truth: Truth,
        cut: Cut,
        *,
        seed: int,
        train: bool,
        augment: AugmentConfig = AugmentConfig(),
    ) -> None:
        if augment.roll or augment.noise:
            option = "roll" if augment.roll else "noise"
            raise UserError(f"{option}: moves sound in time, and the events' times would be wrong.")
        super().__init__(parts, crop=cut.samples, seed=seed, train=train, augment=augment)
        self.parts, self.truth, self.cut = parts, truth, cut
        self._by_class = [
            np.array([n for n, event in enumerate(truth.events) if event.label == label], np.int64)
            for label in range(len(truth.classes))
        ]
        self._by_class = [numbers for numbers in self._by_class if len(numbers)]

    @property
    def lengths(self) -> np.ndarray:
        """`(parts,)` samples of the crops."""
        whole = self.parts.source.lengths[self.parts.rows]
        return np.minimum(whole if self.train else self.parts.lengths, self.cut.samples)

    def _labelled(
        self, index: int, most: int | None, stream: str, place: Place, problems: list[str]
    ) -> Labelled:
        index, wave = self._read(index, most, stream, place, problems)
        item, start, _ = self.place(index, stream, place)
        return index, wave, *self.labels(item, start, len(wave))

    def _crop(self, index: int, most: int | None, stream: str, place: Place) -> np.ndarray:
        item, start, count = self.place(index, stream, place)
        return self.parts.source.read(item, start, count if most is None else min(count, most))

    def place(self, index: int, stream: str, place: Place) -> tuple[int, int, int]:
        """Recording, first sample and length of the crop that is drawn for part `index`."""
        item, begin = int(self.parts.rows[index]), int(self.parts.starts[index])
        length = int(self.parts.lengths[index])
        if not self.train:
            return item, begin, length
        crop, keys = self.cut.samples, (stream, *place, index)
        drawn = float(uniforms(key(self.seed, "event or any", *keys), 1)[0])
        if self._by_class and drawn < self.cut.share:
            event = self._event(keys)
            rate = self.parts.sample_rate
            # At least a cell of the event, or all of a shorter one.
            least = min(event.end - event.start, self.cut.samples / rate / self.cut.columns)
            item = event.item
            low = int((event.start + least) * rate) - crop
            high = int((event.end - least) * rate)
        else:
            low, high = begin, begin + length - crop
            low, high = min(low, high), max(low, high)
        size = int(self.parts.source.lengths[item])
        low, high = max(0, min(low, size - crop)), max(0, min(high, size - crop))
        start = low + below(high - low + 1, self.seed, "place", *keys)
        return item, start, min(crop, size)

    def _event(self, keys: tuple[int | str, ...]) -> Event:
        if self.cut.balanced:
            members = self._by_class[below(len(self._by_class), self.seed, "class", *keys)]
            number = int(members[below(len(members), self.seed, "event", *keys)])
        else:
            number = below(len(self.truth.events), self.seed, "event", *keys)
        return self.truth.events[number]

    def labels(
        self, item: int, start: int, samples: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Targets and what is known of a crop of `samples` from sample `start` of a recording."""
        seconds = start / self.parts.sample_rate
        edges = self.cut.cells(self.cut.columns, seconds)
        target, known = self.truth.cells(item, edges)
        known[edges[1:] > seconds + samples / self.parts.sample_rate] = True
        if self.cut.row_hertz is None:
            return target, known
        rows, sure = self.truth.rows(item, edges, self.cut.row_hertz)
        return (
            np.concatenate([target[:, None], np.minimum(rows, target[:, None])], 1),
            np.concatenate([known[:, None], sure & known[:, None]], 1),
        )
