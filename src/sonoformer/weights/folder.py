"""A checkpoint: a folder with `model.safetensors`, `config.json` and `README.md`."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sonoformer.errors import UserError, brief
from sonoformer.files import atomic, read_json, write_json, write_text, writing
from sonoformer.weights.foreign import read_safetensors

FORMAT = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def save_checkpoint(
    folder: str | Path, tensors: dict[str, Tensor], config: dict[str, Any], card: str
) -> Path:
    """Write a checkpoint folder; it appears whole or not at all, and replaces an older one.

    Args:
        folder: where; its parents are made.
        tensors: name -> tensor.
        config: all that is needed to build the model again, as plain values.
        card: what it was trained on and how well it does, as Markdown.

    Raises:
        UserError: the folder cannot be written or holds something else than a checkpoint.
    """
    with replacing(folder, is_checkpoint, "a checkpoint") as fresh:
        with atomic(fresh / WEIGHTS) as file:
            save_file(_separate(tensors), file)
        write_json(fresh / CONFIG, {**config, "format": FORMAT})
        write_text(fresh / CARD, card)
    return Path(folder)


@contextmanager
def replacing(folder: str | Path, ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """A fresh folder to write in, which takes the place of `folder` whole when the block ends.

    Args:
        folder: where; its parents are made.
        ours: whether what lies there already is such a thing, and may be replaced.
        what: name of the thing, for messages.

    Raises:
        UserError: the folder cannot be written or holds something else.
    """
    folder = Path(folder)
    if folder.is_dir() and not ours(folder) and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files than {what}; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another folder for {what}")
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        with writing(folder):
            fresh.mkdir(parents=True)
            yield fresh
            _install(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_checkpoint(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and configuration of a checkpoint folder; nothing in it is executed.

    Raises:
        UserError: a part is missing or broken, or a newer format.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{folder}: no such checkpoint folder")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: is not a checkpoint folder ({name} is missing)")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG}: should hold a mapping")
    if config.get("format") != FORMAT:
        raise UserError(
            f"{folder / CONFIG}: format {brief(repr(config.get('format')))} is not {FORMAT}; "
            "it was written by another version of sonoformer"
        )
    return read_safetensors(folder / WEIGHTS), config


def is_checkpoint(folder: str | Path) -> bool:
    """Whether the folder holds a checkpoint's configuration and weights."""
    return (Path(folder) / CONFIG).is_file() and (Path(folder) / WEIGHTS).is_file()


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU; one that shares memory with an earlier one (tied weights, a view)
    is copied, as the format has no way to say so."""
    whole: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        whole[name] = value.clone() if place in seen else value
        seen.add(place)
    return whole


def _install(fresh: Path, folder: Path) -> None:
    """Put `fresh` in the place of `folder`; what was there is left at `fresh` or removed."""
    if not folder.exists():
        fresh.rename(folder)
    elif not _exchange(fresh, folder):
        # A crash between these two leaves both folders whole, the old one under a hidden name.
        old = folder.with_name(f"{fresh.name}-old")
        folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where the system can (Linux); whether it did."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if swap is None:
        return False
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap(here, os.fsencode(one), here, os.fsencode(other), both) == 0
