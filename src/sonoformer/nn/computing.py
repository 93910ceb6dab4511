"""Modules that only answer: in evaluation mode, and several batches at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

_MOST = 4
"""Batches at once at most, so that memory stays small on machines of many cores."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def evaluating(module: nn.Module, device: torch.device | str | None = None) -> Iterator[None]:
    """A module in evaluation mode and on `device`; both are given back as they were found."""
    training, home = module.training, next(module.parameters()).device
    module.eval().to(home if device is None else device)
    try:
        yield
    finally:
        module.train(training).to(home)


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Generator[Result, None, None]:
    """`map(function, items)` in the same order, while the next items are gathered.

    On a CPU several are computed at once, each with its share of the threads: an encoder of small
    matrices leaves cores idle where all of them share each operation. Elsewhere one by one.

    Args:
        function: runs in other threads, where contexts such as `torch.inference_mode` have to be
            entered anew. Modules that it calls should be in evaluation mode already.
        items: are taken as they are needed.
        device: where `function` computes.
    """
    threads = torch.get_num_threads()
    workers = min(_MOST, threads) if device.type == "cpu" else 1
    # Each thread has its own count, so that nobody else's changes.
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
    )
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
