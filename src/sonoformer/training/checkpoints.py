"""Checkpoint files that are whole or not there at all, and are read as plain tensors."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from sonoformer.errors import UserError
from sonoformer.files import atomic


class AtomicIO(CheckpointIO):
    """Lightning's reading and writing of checkpoints: atomically, and without running any code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write beside the old checkpoint, flush to the disk, then take its place."""
        write_checkpoint(path, checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read to the CPU; nothing but tensors and plain values is accepted."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file if it is there."""
        Path(path).unlink(missing_ok=True)


def write_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Write `checkpoint` so that at every moment `path` is the whole old or the whole new one.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    with atomic(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # torch's writer may turn a failed write into a RuntimeError that hides the cause.
            cause = error if isinstance(error, OSError) else error.__context__
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise cause from None  # `atomic` has the words for a full disk
            reason = str(cause or error).splitlines()[0]
            raise UserError(
                f"{path}: cannot be written ({reason}); the last good checkpoint is kept: "
                "make room, then run again with --resume"
            ) from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The checkpoint on the CPU.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({reason}); it is damaged or from another "
            "program. Start a new run in another --out"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: is not a training checkpoint")
    return checkpoint


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a process that was killed while it wrote a checkpoint."""
    for path in folder.glob(".*.ckpt"):
        path.unlink(missing_ok=True)
