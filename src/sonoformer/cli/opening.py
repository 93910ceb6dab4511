"""The run of a verb that several processes may work on together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sonoformer.errors import UserError
from sonoformer.run import Run
from sonoformer.training.processes import from_leader, gathered, leads, together

_LEFT_OUT = shutil.ignore_patterns("checkpoints", "cache", "features", "tensorboard", ".*")


@contextmanager
def open_run(
    out: Path, verb: str, config: Any, seed: int, device: str, *, resume: bool, overwrite: bool
) -> Iterator[Run]:
    """`Run.start` for one process, or for all that torchrun started.

    The leader works in `out`. Each other process works on a copy of what the run has left so far,
    which is thrown away in the end: so all go the same way, and only one of them writes.

    Args:
        out, verb, config, seed, resume, overwrite: as `Run.start`.
        device: where they will train.

    Raises:
        UserError: as `Run.start`, and for a process that has lost the others.
    """
    with together(device):
        if leads():
            run = _lead(out, verb, config, seed, resume, overwrite)
            with run:
                yield run
            return
        if not from_leader(False):
            raise SystemExit(UserError.exit_code)  # the leader says why
        with TemporaryDirectory(prefix="sonoformer-") as scratch:
            folder = Path(scratch) / out.name
            if resume:
                shutil.copytree(out, folder, ignore=_LEFT_OUT, copy_function=_copy)
            run = Run.start(folder, verb, config, seed, resume=resume)
            run.echo = None
            gathered(None)
            with run:
                yield run


def _lead(out: Path, verb: str, config: Any, seed: int, resume: bool, overwrite: bool) -> Run:
    try:
        run = Run.start(out, verb, config, seed, resume=resume, overwrite=overwrite)
    except UserError:
        from_leader(False)
        raise
    from_leader(True)
    gathered(None)  # until the others have made their copies, nothing is changed
    return run


def _copy(source: str, target: str) -> None:
    """Small files are copied; weights, which nothing changes in place, are linked."""
    if source.endswith(".safetensors"):
        os.symlink(os.path.abspath(source), target)  # noqa: PTH211, PTH100
    else:
        shutil.copy2(source, target)
