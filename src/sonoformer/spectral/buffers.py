"""Memory that a thread uses again and again.

On a CPU the first touch of fresh memory costs more than the arithmetic of a filterbank; buffers
of a block of frames stay in a core's cache instead. Each thread has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

T = TypeVar("T")
_local = threading.local()


def reused(owner: Any, rows: int, make: Callable[[int], T]) -> T:
    """This thread's buffers of `owner`, made anew when the number of rows changes.

    Args:
        owner: whose buffers they are; they go when it goes.
        rows: of the buffers.
        make: makes them.
    """
    held: WeakKeyDictionary[Any, tuple[int, Any]] | None = getattr(_local, "held", None)
    if held is None:
        held = _local.held = WeakKeyDictionary()
    found = held.get(owner)
    if found is None or found[0] != rows:
        # Made in inference mode, they could not be written to outside it.
        with torch.inference_mode(False):
            found = held[owner] = (rows, make(rows))
    buffers: T = found[1]
    return buffers


def tracing() -> bool:
    """Whether a compiler or an exporter is looking on, which cannot follow reused memory."""
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()


def exporting() -> bool:
    """Whether a graph is being made for another runtime, which may have no Fourier transform."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def may_reuse(wave: torch.Tensor) -> bool:
    """Whether float32 sound on a CPU, with no gradient wanted, allows reused memory."""
    plain = wave.device.type != "cpu" or wave.dtype != torch.float32 or tracing()
    return not (plain or (torch.is_grad_enabled() and wave.requires_grad))
