"""Stop at the first loss or gradient that is not a number, and say where it came from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.training.processes import anywhere, gathered, launched
from sonoformer.training.sharding import total_norm

# Steps between two looks at a device other than the CPU: a look waits for the device to finish.
INTERVAL = 50


class Guard:
    """Watches scalars that must be finite.

    On the CPU each is looked at when it comes, before it can reach the weights. On other devices
    that would make the host wait in every step, so a flag is kept there and read every `INTERVAL`
    batches and before each checkpoint: no checkpoint ever holds weights that come after it.

    Several processes look together, once a step (`agree`) or when the flag is read, so that all of
    them end with the same words, and none waits for one that has gone.

    Args:
        deferred: keep a flag instead of looking at once.
        name: what a data row is called, for the message.
    """

    def __init__(self, deferred: bool, name: Callable[[int], str]) -> None:
        self.deferred, self.name = deferred, name
        self._flag: Tensor | None = None
        self._recent: deque[tuple[int, int, Tensor]] = deque(maxlen=INTERVAL + 1)

    def begin(self, micro: int, step: int, rows: Tensor) -> None:
        """A batch begins: its number, the optimiser step it belongs to, its data set rows."""
        self._recent.append((micro, step, rows))
        if self._flag is not None and micro % INTERVAL == 0:
            self.verify()

    def check(self, value: Tensor) -> None:
        """Watch a scalar of the batch that began last.

        Raises:
            UserError: it is not finite (where deferred, `verify` raises).
        """
        if not self.deferred and launched() == 1:
            if not torch.isfinite(value):
                self._raise(self._recent[-1][0])
            return
        bad = ~torch.isfinite(value.detach())
        if self._flag is None:
            self._flag = torch.full((), -1, dtype=torch.int64, device=value.device)
        self._flag = torch.where((self._flag < 0) & bad, self._recent[-1][0], self._flag)

    def agree(self) -> None:
        """The gradient is there, and no weight has changed yet: on CPUs the processes look.

        Raises:
            UserError: as `verify`.
        """
        if not self.deferred and launched() > 1:
            self.verify()

    def verify(self) -> None:
        """Read the flag of the device; several processes do so at the same time.

        Raises:
            UserError: a watched scalar was not finite.
        """
        micro = -1 if self._flag is None else int(self._flag.item())
        if any(anywhere(micro >= 0)):
            self._raise(micro)

    def verify_weights(self, module: nn.Module, step: int) -> None:
        """Refuse weights that must not be saved.

        Raises:
            UserError: a weight is not finite.
        """
        self.verify()
        weights = [p.detach() for p in module.parameters()]
        if weights and not torch.isfinite(total_norm(weights)):
            raise UserError(
                f"the weights are not finite after step {step}; the last good checkpoint is kept: "
                "lower lr or set clip, then start again"
            )

    def _raise(self, micro: int) -> None:
        own = [(step, rows.tolist()) for number, step, rows in self._recent if number == micro]
        found = [place for places in gathered(own) for place in places]
        step = min(step for step, _ in found)
        rows = [row for at, part in found if at == step for row in part]
        listed = ", ".join(f"{row} {self.name(row)}" for row in rows)
        raise UserError(
            f"the loss or its gradient is not a finite number at step {step + 1}; the last good "
            f"checkpoint is kept. Lower lr, set clip, or look at the batch (data rows {listed})"
        )
