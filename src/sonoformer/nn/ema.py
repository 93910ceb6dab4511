"""The exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """A shadow of the floating-point parameters and buffers of a module, kept in fp32.

    Averages kept in bf16 stop moving at decays near 1, so the shadow never is.

    Args:
        module: the module to follow; its present weights are the start.
        decay: share of the old average that a step keeps, 0 to below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._shadow = {name: value.detach().float().clone() for name, value in _floats(module)}

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float | None = None) -> None:
        """Move the average towards the module's present weights."""
        weight = 1 - (self.decay if decay is None else decay)
        names, values = zip(*_floats(module), strict=True)
        torch._foreach_lerp_(
            [self._shadow[name] for name in names], [v.detach().float() for v in values], weight
        )

    @torch.no_grad()
    def install(self, module: nn.Module) -> None:
        """Copy the average into the module."""
        for name, value in _floats(module):
            value.copy_(self._shadow[name])

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """The module holds the average inside the block, and its own weights again after it."""
        own = {name: value.detach().clone() for name, value in _floats(module)}
        self.install(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in _floats(module):
                    value.copy_(own[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The average, by parameter name."""
        return dict(self._shadow)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take an average that was saved.

        Raises:
            ValueError: names or shapes differ from the module's.
        """
        shapes = {name: value.shape for name, value in self._shadow.items()}
        if {name: value.shape for name, value in state.items()} != shapes:
            raise ValueError("the saved average is that of another module: names or shapes differ")
        for name, value in self._shadow.items():
            value.copy_(state[name])


def _floats(module: nn.Module) -> list[tuple[str, Tensor]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [(name, value) for name, value in tensors if value.is_floating_point()]
