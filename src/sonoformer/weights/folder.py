"""A checkpoint: a folder with `model.safetensors`, `config.json` and `README.md`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.files import read_json, write_json, write_text

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
    folder = Path(folder)
    if folder.exists() and not is_checkpoint(folder) and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files than a checkpoint; choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(whole, fresh / WEIGHTS)
        write_json(fresh / CONFIG, {"format": FORMAT, **config})
        write_text(fresh / CARD, card)
        fresh.chmod(0o755)
        _swap(fresh, folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: the checkpoint could not be written ({error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


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
            f"{folder / CONFIG}: format {config.get('format')!r} is not {FORMAT}; "
            "it was written by another version of sonoformer"
        )
    try:
        return load_file(folder / WEIGHTS), config
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS}: cannot be read ({error}); copy it again") from error


def is_checkpoint(folder: str | Path) -> bool:
    """Whether the folder holds a checkpoint's configuration and weights."""
    return (Path(folder) / CONFIG).is_file() and (Path(folder) / WEIGHTS).is_file()


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` in the place of `folder`; a folder cannot be replaced in one call."""
    old = None
    if folder.exists():
        old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
        folder.rename(old)
    fresh.rename(folder)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
