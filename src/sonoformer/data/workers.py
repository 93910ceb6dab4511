"""Loader processes: how they start, how they end, and how batches come from them.

A ten-second clip is 320 kB, so thousands a second cost more in moving than in reading. Fresh shared
memory for each batch would cost a page fault every 4 kB, in the worker and in the parent. So the
parent keeps a shelf of shared slots; a worker fills one, the parent takes the clips out as float32,
and the slot serves again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import Item, collate
from sonoformer.errors import UserError

_LARGEST = 1 << 27  # bytes of a slot; larger batches are sent by torch's own way
_GRACE = 30.0  # seconds for which a worker that is told to end still serves


@dataclass(frozen=True)
class Parcel:
    """A batch on its way.

    Attributes:
        batch: the batch; its waveforms are empty if they lie in a slot.
        slot: where they lie.
        shape: their shape.
        dtype: their type.
    """

    batch: Batch
    slot: int | None = None
    shape: tuple[int, int] = (0, 0)
    dtype: torch.dtype = torch.int16


@dataclass(frozen=True)
class Shelf:
    """Slots in shared memory, uint8 `(slots, bytes)`; pages exist once they are written to."""

    slots: Tensor

    @classmethod
    def of(cls, count: int, size: int) -> Shelf:
        """`count` slots for batches of up to `size` bytes, which is room for float32.

        Raises:
            UserError: the system has not enough shared memory, not even for 16-bit samples.
        """
        size = min(size, _LARGEST)
        free = _free_shared_memory()
        if free is not None and count * size // 2 > free:
            raise UserError(
                f"workers: {count * size >> 21} MB of shared memory are needed and {free >> 20} MB "
                "are free; use fewer workers, smaller batches, or a larger /dev/shm "
                "(docker run --shm-size)"
            )
        return cls(torch.empty(count, size, dtype=torch.uint8).share_memory_())

    def __len__(self) -> int:
        return len(self.slots)

    def put(self, items: Sequence[Item], slot: int) -> Parcel:
        """Collate items into a slot, or outside if they are too large for it."""
        used = []

        def allocate(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
            if shape[0] * shape[1] * dtype.itemsize > self.slots.shape[1]:
                return torch.empty(shape, dtype=dtype)
            used.append((slot, shape, dtype))
            return self._view(slot, shape, dtype)

        batch = collate(items, allocate)
        if not used:
            return Parcel(batch)
        return Parcel(replace(batch, wave=torch.empty(0)), *used[0])

    def take(self, parcel: Parcel) -> Batch:
        """The batch, with memory of its own; the slot is free again."""
        if parcel.slot is None:
            return parcel.batch
        lent = self._view(parcel.slot, parcel.shape, parcel.dtype)
        # 16-bit waveforms are copied by becoming float32, or by going to page-locked memory.
        wave = lent.clone() if lent.is_floating_point() else lent
        return replace(parcel.batch, wave=wave)

    def _view(self, slot: int, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        size = shape[0] * shape[1] * dtype.itemsize
        return self.slots[slot, :size].view(dtype).view(shape)


def _free_shared_memory() -> int | None:
    """Bytes; None where the system has no such place to ask. Too little ends in a bus error."""
    try:
        status = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return None
    return status.f_bavail * status.f_frsize


def start_method() -> Any:
    """How workers are started.

    A fork would inherit locks that other threads hold. Python's fork server starts from nothing,
    imports torch once, and forks workers from there in a tenth of a second.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def settle(_: int) -> None:
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
