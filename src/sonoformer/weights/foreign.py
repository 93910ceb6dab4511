"""State dictionaries that other programs wrote, read without executing anything.

Whatever a file holds, reading it ends in tensors of ordinary kinds that take about as much memory
as the file, under printable names, or in one sentence.
"""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sonoformer.errors import UserError, brief
from sonoformer.weights.scan import MOST, scan

_HARMLESS: list[Any] = [argparse.Namespace]
"""The training options that many authors save beside the weights; they are left out."""
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_WRAPPED = 8
"""Dictionaries around each other that are unwrapped; one can hold itself."""
_LONGEST = 300


class Foreign(NamedTuple):
    """What a file of weights holds.

    Attributes:
        tensors: name -> tensor on the CPU.
        left_out: names of what is no tensor, or lies beside the weights (optimiser state).
    """

    tensors: dict[str, Tensor]
    left_out: tuple[str, ...] = ()


def read_foreign(path: str | Path) -> Foreign:
    """Tensors of a `.pth`, `.pt`, `.bin`, `.ckpt` or `.safetensors` file, on the CPU.

    A dictionary wrapped under a usual name (`state_dict`, `model`) is unwrapped, and the `module.`
    that DataParallel puts before every name is taken off.

    Raises:
        UserError: the file is missing, broken, no checkpoint, or needs code to be executed.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the weights file in it")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.suffix.lower() == ".safetensors":
        return Foreign(_strip(read_safetensors(path)))
    value, left_out = _unwrapped(_load(path), path)
    # Attributes that a file gives to a tensor can hide its methods; those of the class are meant.
    tensors = {str(k): Tensor.detach(v) for k, v in value.items() if isinstance(v, Tensor)}
    left_out += [_label(k) for k, v in value.items() if not isinstance(v, Tensor)]
    return Foreign(_strip(_checked(tensors, path)), tuple(left_out))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        UserError: the file is broken, or holds what no model has.
    """
    try:
        tensors = load_file(path)
    except Exception as error:
        # Damaged headers end in other errors than the format's own, too.
        known = isinstance(error, SafetensorError | OSError)
        why = brief(str(error)) if known else type(error).__name__
        raise UserError(f"{path}: is not a whole safetensors file ({why}); copy it again") from None
    return _checked(tensors, path)


def _unwrapped(value: Any, path: Path) -> tuple[dict[Any, Any], list[str]]:
    """The dictionary of weights in what a file holds, and names of what lies around it."""
    left_out: list[str] = []
    for _ in range(_WRAPPED):
        if not isinstance(value, dict):
            raise UserError(f"{path}: holds a {type(value).__name__}, not a dictionary of weights")
        # Of an OrderedDict too, a file can hide the methods.
        value = dict(dict.items(value))
        name = next((name for name in _WRAPPERS if isinstance(value.get(name), dict)), None)
        if name is None:
            return value, left_out
        left_out += [_label(other) for other in value if other != name]
        value = value[name]
    raise UserError(f"{path}: holds dictionaries in dictionaries, and no weights in {_WRAPPED}")


def _checked(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors, if a model can be made of them.

    Raises:
        UserError: there are none; odd names; kinds that no model has; more than fits in the file.
    """
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    unnamed = [name for name in tensors if len(name) > _LONGEST or not name.isprintable()]
    if unnamed:
        raise UserError(f"{path}: names a tensor {brief(unnamed[0], 40)!r}, as no program does")
    odd = [name for name, tensor in tensors.items() if not _is_plain(tensor)]
    if odd:
        raise UserError(
            f"{path}: sparse, quantised or complex tensors ({', '.join(odd[:4])}), which no model "
            "here has"
        )
    # Views of a few numbers can claim any size.
    claimed = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    if claimed > MOST * path.stat().st_size:
        raise UserError(f"{path}: its tensors would take {claimed:,} bytes, far more than the file")
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) is Tensor
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
        and not tensor.is_complex()
    )


def _load(path: Path) -> Any:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        scan(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes make the unpickler fail in any way whatever.
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path}: cannot be read without executing code that it names "
                f"({brief(found[1].rstrip('.'))}), which is refused; ask its authors for a file of "
                "plain tensors (safetensors)"
            ) from None
        raise UserError(
            f"{path}: is no checkpoint that torch.save wrote, or is damaged or cut short"
        ) from None


def _label(key: Any) -> str:
    """A key of a dictionary, for messages."""
    return brief(key if isinstance(key, str) else repr(key), 60)


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
