"""Stop at the first loss or gradient that is not a number, and say where it came from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError

# Steps between two looks at a device other than the CPU: a look waits for the device to finish.
INTERVAL = 50


class Guard:
    """Watches scalars that must be finite.

    On the CPU each is looked at when it comes, before it can reach the weights. On other devices
    that would make the host wait in every step, so a flag is kept there and read every `INTERVAL`
    batches and before each checkpoint: no checkpoint ever holds weights that come after it.

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
        if not self.deferred:
            if not torch.isfinite(value):
                self._raise(self._recent[-1][0])
            return
        bad = ~torch.isfinite(value.detach())
        if self._flag is None:
            self._flag = torch.full((), -1, dtype=torch.int64, device=value.device)
        self._flag = torch.where((self._flag < 0) & bad, self._recent[-1][0], self._flag)

    def verify(self) -> None:
        """Read the flag of the device.

        Raises:
            UserError: a watched scalar was not finite.
        """
        if self._flag is not None and (micro := int(self._flag.item())) >= 0:
            self._raise(micro)

    def verify_weights(self, module: nn.Module, step: int) -> None:
        """Refuse weights that must not be saved.

        Raises:
            UserError: a weight is not finite.
        """
        self.verify()
        weights = [p.detach() for p in module.parameters()]
        if weights and not torch.isfinite(torch.nn.utils.get_total_norm(weights)):
            raise UserError(
                f"the weights are not finite after step {step}; the last good checkpoint is kept: "
                "lower lr or set clip, then start again"
            )

    def _raise(self, micro: int) -> None:
        found = [(step, rows) for number, step, rows in self._recent if number == micro]
        step, rows = found[0]
        listed = ", ".join(f"{row} {self.name(row)}" for row in rows.tolist())
        raise UserError(
            f"the loss or its gradient is not a finite number at step {step + 1}; the last good "
            f"checkpoint is kept. Lower lr, set clip, or look at the batch (data rows {listed})"
        )
