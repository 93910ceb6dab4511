"""What a loader gives and a learner takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sonoformer.data.sources import FULL_SCALE


@dataclass
class Batch:
    """Clips of one step.

    Attributes:
        wave: `(batch, samples)` in [-1, 1], zero past each clip's length; learners see float32
            (between processes, and in page-locked memory, 16-bit integers travel: see `prepared`).
        lengths: `(batch,)` samples of each clip.
        index: `(batch,)` rows of the data set.
        targets: `(batch, classes)` in [0, 1], where there are labels; of a detector's crops
            `(batch, columns, classes)`, see `crops.EventCrops`.
        known: bool, shaped as `targets`, false where nobody looked for the class.
        noise: `(batch, k)` uniform in [0, 1), keyed by each clip's place in the epoch.
        draws: `(batch, 8)` uniform in [0, 1) for spectrogram augmentation, in training only.
        problems: recordings that could not be read, and were replaced, as `path: reason`.
    """

    wave: Tensor
    lengths: Tensor
    index: Tensor
    targets: Tensor | None = None
    known: Tensor | None = None
    noise: Tensor | None = None
    draws: Tensor | None = None
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on a device, its waveforms as float32."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking)).prepared()

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for an asynchronous copy to a GPU."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors = {n: change(v) for n, v in self._items() if isinstance(v, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]

    def prepared(self) -> Batch:
        """The batch with its waveforms as float32; 16-bit integers become [-1, 1)."""
        if self.wave.dtype == torch.int16:
            self.wave = self.wave.float().mul_(1 / FULL_SCALE)
        return self

    def _items(self) -> list[tuple[str, Any]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]

    # A tensor that goes to another process costs a file handle and a mapping there. Only the
    # waveforms are worth that; the rest goes by value.
    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value.numpy() if isinstance(value, Tensor) and name != "wave" else value
            for name, value in self._items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, torch.from_numpy(value) if isinstance(value, np.ndarray) else value)
