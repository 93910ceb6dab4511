"""Batches of a run, from any step to any step, the same whoever prepares them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset, collate
from sonoformer.data.order import Draw, Order


class StepLoader:
    """Batches `start` to `stop - 1` of an order, or this process's share of each.

    Which clips a batch holds, and everything random about them, follows from the order alone:
    workers, restarts and the number of processes change nothing.

    Args:
        dataset: the clips.
        order: which clips come when.
        start: first batch.
        stop: the batch after the last.
        workers: processes that prepare batches; 0 prepares them in this one.
        rank: this process's number.
        world_size: number of processes; each takes every `world_size`-th clip of a batch.
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
    ) -> None:
        self.start, self.stop = start, stop
        steps = _Steps(order, start, stop, rank, world_size)
        self._loader = _loader(dataset, steps, workers)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield batch.prepared()


class EvaluationLoader:
    """Every clip once, clips of similar length together so that little is padded.

    Args:
        dataset: the clips; their crops and noise do not change from pass to pass.
        batch_size: most clips a batch.
        rows: the clips to take; all by default.
        seconds: most padded seconds a batch; long clips come in smaller batches.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        rows: np.ndarray | None = None,
        seconds: float = 320.0,
    ) -> None:
        self.dataset = dataset
        lengths = dataset.source.lengths
        if dataset.crop is not None:
            lengths = np.minimum(lengths, dataset.crop)
        rows = np.arange(len(dataset)) if rows is None else rows
        order = rows[np.argsort(lengths[rows], kind="stable")]
        budget = seconds * dataset.source.sample_rate
        self._batches: list[list[Draw]] = []
        for row in order.tolist():
            last = self._batches[-1] if self._batches else None
            full = (
                last is None or len(last) >= batch_size or (len(last) + 1) * lengths[row] > budget
            )
            if full:
                self._batches.append([])
            self._batches[-1].append(Draw(0, row, row))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for draws in self._batches:
            yield collate([self.dataset[draw] for draw in draws]).prepared()


class _Steps:
    """The draws of each batch; a list to torch's loader, which sends them to its workers."""

    def __init__(self, order: Order, start: int, stop: int, rank: int, world_size: int) -> None:
        self.order, self.start, self.stop = order, start, stop
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.stop):
            yield self.order.batch(step)[self.rank :: self.world_size]


def _loader(dataset: ClipDataset, steps: _Steps, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=steps,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        # A fork inherits locks of other threads in unknown states; a fresh process does not.
        multiprocessing_context="spawn" if workers else None,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
