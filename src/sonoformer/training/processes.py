"""Several processes that train one model: who each is, and how they agree.

`torchrun` starts the processes and tells each by its environment who it is. They meet in `together`
and go through the same program; process 0, the leader, alone writes the run. Each computes its
share of every batch, so that what is learnt is what one process would learn.

Agreements are made on the CPU, so that no device is waited for. Without `together` each of these
functions speaks for a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from sonoformer.errors import UserError

T = TypeVar("T")
# A process that has died is noticed at once; this is for one that lives and does not come.
_PATIENCE = timedelta(hours=2)


def launched() -> int:
    """Number of processes that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ["RANK"]) if launched() > 1 else 0


def leads() -> bool:
    """Whether this process writes what the run leaves."""
    return rank() == 0


def local() -> tuple[int, int]:
    """Number of this process on its machine, and how many there are."""
    if launched() == 1:
        return 0, 1
    return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])


@contextmanager
def together(device: str = "auto") -> Iterator[None]:
    """Meet the other processes, and part from them at the end; in a single process nothing.

    Args:
        device: where they will train, which says how they talk: gloo on CPUs, nccl on GPUs.

    Raises:
        UserError: another process has ended while this one waited for it.
    """
    if launched() == 1 or _met():
        yield
        return
    import torch
    from torch import distributed as dist

    backend = "gloo"
    if torch.cuda.is_available() and device != "cpu":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local()[0] % torch.cuda.device_count())
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if not parted(error):
            raise
        raise UserError(
            "another process of the run has ended; what was saved is kept: continue with --resume"
        ) from error
    finally:
        dist.destroy_process_group()


def parted(error: BaseException) -> bool:
    """Whether an error says that another process can no longer be reached."""
    signs = ("connection closed", "connection reset", "connection refused", "broken pipe")
    signs += ("socket closed", "nccl", "gloo", "timed out waiting")  # type: ignore[assignment]
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def from_leader(value: T) -> T:
    """The leader's value, on every process."""
    if not _met():
        return value
    from torch import distributed as dist

    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def gathered(value: T) -> list[T]:
    """Every process's value, in the order of their numbers."""
    if not _met():
        return [value]
    from torch import distributed as dist

    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def anywhere(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is true on any process."""
    if not _met():
        return flags
    import torch
    from torch import distributed as dist

    table = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(table, dist.ReduceOp.MAX)
    return tuple(bool(value) for value in table.tolist())


def _met() -> bool:
    if launched() == 1:
        return False
    from torch import distributed as dist

    return dist.is_available() and dist.is_initialized()
