"""Batches of a run, from any step to any step, the same whoever prepares them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset, Item, collate
from sonoformer.data.order import Draw, Order
from sonoformer.data.workers import Parcel, Shelf, settle, start_method
from sonoformer.errors import AudioError, UserError


class StepLoader:
    """Batches `start` to `stop - 1` of an order, or this process's share of each.

    Which clips a batch holds, and everything random about them, follows from the order alone:
    workers, restarts and the number of processes change nothing. The workers live for one pass over
    the loader, which is a whole training run.

    Waveforms are float32; where there is a CUDA device, they are 16-bit integers in page-locked
    memory (if the source gives such), and become float32 on the device by `Batch.to`.

    Args:
        dataset: the clips.
        order: which clips come when.
        start: first batch.
        stop: the batch after the last.
        workers: processes that prepare batches; 0 prepares them in this one.
        rank: this process's number.
        world_size: number of processes; each takes every `world_size`-th clip of a batch.
        prefetch: batches that each worker prepares ahead.

    Raises:
        UserError: a batch holds fewer clips than there are processes.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        order: Order,
        *,
        start: int,
        stop: int,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = 2,
    ) -> None:
        if order.batch_size < world_size:
            raise UserError(
                f"batch_size: {order.batch_size} clips cannot be shared by {world_size} processes; "
                "make it larger"
            )
        self.dataset, self.order, self.start, self.stop = dataset, order, start, stop
        self.workers, self.prefetch = workers, prefetch
        self._rank, self._world = rank, world_size

    def __len__(self) -> int:
        return self.stop - self.start

    def draws(self, step: int) -> list[Draw]:
        """This process's share of the clips of batch `step`."""
        return self.order.batch(step)[self._rank :: self._world]

    def __iter__(self) -> Iterator[Batch]:
        pinned = torch.cuda.is_available()
        for batch in self._from_workers() if self.workers else self._from_here():
            yield batch.pin_memory() if pinned else batch.prepared()

    def _from_here(self) -> Iterator[Batch]:
        for step in range(self.start, self.stop):
            yield collate([self.dataset[draw] for draw in self.draws(step)])

    def _from_workers(self) -> Iterator[Batch]:
        # One slot more than there are batches under way: the one that is being taken out.
        shelf = Shelf.of(
            self.workers * self.prefetch + 1,
            -(-self.order.batch_size // self._world) * int(self.dataset.lengths.max()) * 4,
        )
        loader: DataLoader[Parcel | UserError] = DataLoader(
            _Worker(self.dataset, shelf),
            sampler=_Requests(self, len(shelf)),
            batch_size=None,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=self.workers,
            worker_init_fn=settle,
            prefetch_factor=self.prefetch,
            multiprocessing_context=start_method(),
            # Its own, because torch draws a seed for the workers, which must not move the others.
            generator=torch.Generator(),
        )
        for parcel in loader:
            # As a value, because torch raises what a worker raised with a traceback for a message.
            if isinstance(parcel, UserError):
                raise parcel
            yield shelf.take(parcel)


class EvaluationLoader:
    """Every clip once, clips of similar length together so that little is padded.

    It can be iterated again and again, and gives the same each time; the next batch is read while
    the last one is used. A clip that cannot be read is left out.

    Args:
        dataset: the clips; their crops and noise do not change from pass to pass.
        batch_size: most clips a batch.
        rows: the clips to take; all by default.
        seconds: most padded seconds a batch; long clips come in smaller batches.

    Attributes:
        problems: path -> reason, of clips left out so far (also in `Batch.problems`).
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        rows: np.ndarray | None = None,
        seconds: float = 320.0,
    ) -> None:
        self.dataset, self.problems = dataset, dict[str, str]()
        lengths = dataset.lengths
        rows = np.arange(len(dataset)) if rows is None else rows
        order = rows[np.argsort(lengths[rows], kind="stable")]
        budget = seconds * dataset.source.sample_rate
        self._batches: list[list[Draw]] = []
        for row in order.tolist():
            last = self._batches[-1] if self._batches else None
            if not last or len(last) >= batch_size or (len(last) + 1) * lengths[row] > budget:
                self._batches.append([])
            self._batches[-1].append(Draw(0, row, row))

    def __len__(self) -> int:
        return len(self._batches)

    def share(self, rank: int, world_size: int) -> EvaluationLoader:
        """Every `world_size`-th batch, from batch `rank` on: what one of several processes does."""
        part = copy.copy(self)
        part.problems, part._batches = {}, self._batches[rank::world_size]
        return part

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as thread:
            coming = [thread.submit(self._read, draws) for draws in self._batches[:1]]
            for draws in [*self._batches[1:], None][: len(self)]:
                items, problems = coming.pop().result()
                if draws is not None:
                    coming.append(thread.submit(self._read, draws))
                for error in problems:
                    self.problems.setdefault(str(error.path), error.reason)
                if items:
                    batch = collate(items).prepared()
                    batch.problems += map(str, problems)
                    yield batch

    def _read(self, draws: list[Draw]) -> tuple[list[Item], list[AudioError]]:
        items, problems = [], []
        for draw in draws:
            try:
                items.append(self.dataset[draw])
            except AudioError as error:
                problems.append(error)
        return items, problems


class _Request(NamedTuple):
    """A batch to be made, and the slot to leave it in."""

    slot: int
    draws: list[Draw]


class _Requests:
    """The requests of a loader; a sampler to torch's, which sends them to its workers in turn."""

    def __init__(self, loader: StepLoader, slots: int) -> None:
        self.loader, self.slots = loader, slots

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[_Request]:
        for step in range(self.loader.start, self.loader.stop):
            yield _Request(step % self.slots, self.loader.draws(step))


class _Worker(Dataset[Parcel | UserError]):
    """What a worker does: a request -> a parcel, or the user's mistake."""

    def __init__(self, dataset: ClipDataset, shelf: Shelf) -> None:
        self.dataset, self.shelf = dataset, shelf

    def __getitem__(self, request: _Request) -> Parcel | UserError:
        try:
            items = [self.dataset[draw] for draw in request.draws]
        except UserError as error:
            return error
        return self.shelf.put(items, request.slot)


def _as_it_is(parcel: Parcel | UserError) -> Parcel | UserError:
    return parcel
