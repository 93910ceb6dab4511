"""Tables that a module computes from its options rather than saving them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Tables(nn.Module):
    """A module with tables: buffers that no checkpoint holds, made in float64 and then cast.

    They are float32, or float64 after `.double()`. Rounded by `.half()` they would spoil
    everything after, so they are made again instead of being cast.
    """

    def _tables(self) -> dict[str, Tensor]:
        """Tables by name, float64 on the CPU."""
        raise NotImplementedError

    def _lay_tables(self) -> None:
        """Register the tables; called once, at the end of a constructor."""
        self._laid = tuple(made := self._tables())
        for name, table in made.items():
            self.register_buffer(name, table.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        held = {name: getattr(self, name) for name in self._laid}
        if any(table.dtype != torch.float32 for table in held.values()):
            for name, table in self._tables().items():
                kind = torch.float64 if held[name].dtype == torch.float64 else torch.float32
                setattr(self, name, table.to(held[name].device, kind))
        return self
