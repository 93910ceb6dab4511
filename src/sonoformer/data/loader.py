"""Batches of a run, from any step to any step, the same whoever prepares them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset, Item, collate
from sonoformer.data.order import Draw, Order
from sonoformer.errors import AudioError, UserError

_GRACE = 30.0  # seconds for which a worker that is told to end still serves


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
        prefetch: int = 4,
    ) -> None:
        if order.batch_size < world_size:
            raise UserError(
                f"batch_size: {order.batch_size} clips cannot be shared by {world_size} processes; "
                "make it larger"
            )
        self.start, self.stop = start, stop
        self._pinned = torch.cuda.is_available()
        self._loader: DataLoader[Batch] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=_Steps(order, start, stop, rank, world_size),
            collate_fn=partial(collate, allocate=_shared) if workers else collate,
            num_workers=workers,
            worker_init_fn=_settle if workers else None,
            prefetch_factor=prefetch if workers else None,
            pin_memory=self._pinned,
            multiprocessing_context=_context() if workers else None,
        )

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield batch if self._pinned else batch.prepared()


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

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as thread:
            coming = [thread.submit(self._read, draws) for draws in self._batches[:1]]
            for draws in [*self._batches[1:], None]:
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


def _context() -> Any:
    """How workers are started.

    A fork would inherit locks that other threads hold. Python's fork server starts from nothing,
    imports torch once, and forks workers from there in a tenth of a second.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _shared(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Zeros in shared memory, where a worker writes waveforms so that they are not copied again."""
    size = shape[0] * shape[1] * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(size)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)


def _settle(_: int) -> None:
    """Make a process a good worker: one thread, no life without its parent, deaf to Ctrl-C.

    Ctrl-C, `timeout` and batch systems signal every process of a job; the parent, which wants to
    finish its step, needs its workers until then.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_later)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _leave_later(signum: int, frame: FrameType | None) -> None:
    timer = threading.Timer(_GRACE, os._exit, [0])
    timer.daemon = True
    timer.start()


def _follow_parent() -> None:
    # Torch's own watch looks at the process that forked, which here is the fork server.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
