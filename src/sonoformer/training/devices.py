"""Which device trains, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from sonoformer.errors import UserError
from sonoformer.nn.precision import bf16_is_fast
from sonoformer.training.processes import launched, local


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` (the first of cuda, mps, cpu that is there), or a device by its torch name.

    Of several processes each takes the GPU of its own number.

    Raises:
        UserError: the name means nothing to torch, or the device is not there.
    """
    if launched() > 1:
        return _of_process(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown; use auto, cpu, cuda, cuda:1 or mps") from None
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= present.get(device.type, 0):
        raise UserError(f"--device {name}: this machine has no such device; use --device auto")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", 0)
    return device


def _of_process(name: str) -> torch.device:
    number, count = local()
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise UserError(f"--device {name}: with several processes give auto, cpu or cuda")
    if torch.cuda.device_count() < count:
        raise UserError(
            f"--device {name}: this machine has {torch.cuda.device_count()} GPUs for {count} "
            "processes; start fewer (torchrun --nproc-per-node), or give --device cpu"
        )
    return torch.device("cuda", number)


def resolve_precision(
    name: Literal["auto", "fp32", "bf16"], device: torch.device
) -> Literal["fp32", "bf16"]:
    """`auto` takes bf16 where the device computes it faster than fp32."""
    if name == "auto":
        return "bf16" if bf16_is_fast(device) else "fp32"
    return name


def autocast(
    precision: Literal["fp32", "bf16"], device: torch.device
) -> AbstractContextManager[object]:
    """The context in which a model computes at `precision`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
