"""Loader processes: slots in shared memory, and how a worker lives and ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sonoformer.data import workers
from sonoformer.data.dataset import ClipDataset, Item
from sonoformer.data.loader import StepLoader
from sonoformer.data.order import Order
from sonoformer.data.workers import Shelf
from sonoformer.errors import UserError


class Zeros:
    sample_rate = 100
    lengths = np.full(8, 50)

    def __len__(self) -> int:
        return 8

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        return np.full(count, index, np.int16)


def item(samples: list[float], dtype: type = np.int16) -> Item:
    return Item(np.array(samples, dtype), 0, None, None, None, None, [])


def test_a_slot_is_filled_and_emptied() -> None:
    shelf = Shelf.of(2, 64)
    shelf.slots.fill_(77)  # what an earlier batch left
    first = shelf.put([item([1, 2, 3]), item([4])], 0)
    second = shelf.put([item([0.5, 0.25], np.float32)], 1)
    assert first.batch.wave.numel() == 0  # only the rest travels
    taken = shelf.take(second)
    assert shelf.take(first).wave.tolist() == [[1, 2, 3], [4, 0, 0]]
    shelf.put([item([0.0], np.float32)], 1)
    assert taken.wave.tolist() == [[0.5, 0.25]]  # a copy: the slot may be filled again
    assert shelf.slots.is_shared()


def test_what_does_not_fit_into_a_slot_travels_itself() -> None:
    shelf = Shelf.of(1, 4)
    parcel = shelf.put([item([1, 2, 3])], 0)
    assert parcel.slot is None
    assert shelf.take(parcel).wave.tolist() == [[1, 2, 3]]


def test_too_little_shared_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_free_shared_memory", lambda: 64 << 20)
    assert len(Shelf.of(4, 32 << 20)) == 4
    with pytest.raises(UserError, match="workers: 80 MB of shared memory are needed and 64 MB"):
        Shelf.of(5, 32 << 20)


def test_workers_serve_on_after_the_signals_of_a_job() -> None:
    before = set(multiprocessing.active_children())
    dataset = ClipDataset(Zeros(), crop=None, seed=0, train=True)
    order = Order(8, batch_size=4, seed=0)
    batches = iter(StepLoader(dataset, order, start=0, stop=50, workers=2))
    for _ in range(2):
        next(batches)  # one from each worker, so that both are at work
    pids = [worker.pid for worker in set(multiprocessing.active_children()) - before]
    for number in (signal.SIGINT, signal.SIGTERM):
        for pid in pids:
            assert pid is not None
            os.kill(pid, number)
    assert len(list(batches)) == 48


_CHILD = """
import sys, time, multiprocessing
sys.path.insert(0, sys.argv[1])
from test_workers import Zeros, ClipDataset, Order, StepLoader
if __name__ == "__main__":
    dataset = ClipDataset(Zeros(), crop=None, seed=0, train=True)
    order = Order(8, batch_size=4, seed=0)
    batches = iter(StepLoader(dataset, order, start=0, stop=9**9, workers=2))
    next(batches)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(_CHILD)
    child = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        pids = [int(pid) for pid in child.stdout.readline().split()]
        assert len(pids) == 2
        assert all(_alive(pid) for pid in pids)
        child.send_signal(signal.SIGKILL)
        until = time.monotonic() + 30
        while any(map(_alive, pids)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
