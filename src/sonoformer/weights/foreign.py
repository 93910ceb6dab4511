"""State dictionaries that other programs wrote, read without executing anything."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sonoformer.errors import UserError

_HARMLESS: list[Any] = [argparse.Namespace]
"""The training options that many authors save beside the weights; they are left out."""
_DEEPEST = 8
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


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
    if path.suffix == ".safetensors":
        return Foreign(_strip(_load_safetensors(path)))
    value = _load(path)
    left_out: list[str] = []
    for _ in range(_DEEPEST):  # a dictionary may hold itself
        if not isinstance(value, Mapping) or (name := _wrapper(value)) is None:
            break
        left_out += [str(other) for other in value if other != name]
        value = value[name]
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: holds a {type(value).__name__}, not a dictionary of weights")
    tensors = {str(k): v.detach() for k, v in value.items() if isinstance(v, Tensor)}
    left_out += [str(k) for k, v in value.items() if not isinstance(v, Tensor)]
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    odd = [name for name, tensor in tensors.items() if not _is_plain(tensor)]
    if odd:
        raise UserError(
            f"{path}: sparse, quantised or complex tensors ({', '.join(odd[:4])}), which no model "
            "here has"
        )
    return Foreign(_strip(tensors), tuple(left_out))


def _wrapper(value: Mapping[Any, Any]) -> str | None:
    """The name under which another dictionary is wrapped in `value`, if any."""
    return next((name for name in _WRAPPERS if isinstance(value.get(name), Mapping)), None)


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
        and not tensor.is_complex()
    )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a whole safetensors file ({error})") from error


def _load(path: Path) -> Any:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes make the unpickler fail in any way whatever.
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path}: cannot be read without executing code that it names "
                f"({found[1].rstrip('.')}), which is refused; ask its authors for a file of plain "
                "tensors (safetensors)"
            ) from None
        raise UserError(
            f"{path}: is no checkpoint that torch.save wrote, or is damaged or cut short"
        ) from None


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
