"""Ctrl-C and SIGTERM: stop after the step, with everything saved."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sonoformer.errors import UserError
from sonoformer.training.processes import launched


class Interrupted(UserError):  # noqa: N818 (no error: a request that was met)
    """Training was stopped from outside; its checkpoint is written.

    Attributes:
        exit_code: what the process should exit with, 128 + signal number as shells expect.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a request, and a second one into an exception.

    While a checkpoint is being written (`saving`) even the second only asks. So does every one
    where torchrun started the process: it hands on signals that the process has had already, and
    kills it after 30 seconds.

    Attributes:
        number: the signal that asked, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._saving = False
        self._impatient = False
        self._old: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.number is not None

    @property
    def name(self) -> str:
        """The signal's name for a message."""
        number = self.number or signal.SIGINT
        return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def install(self) -> None:
        """Take over both signals; only the main thread may. A second call takes them again."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give both signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._old = {}

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Hold back a second signal until the checkpoint is whole."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False
        if self._impatient:
            self._raise()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            words = f"{self.name}: stopping after this step and saving (once more stops at once)\n"
            # Past Python's own buffers, in whose middle a signal may arrive.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, words.encode())
        elif launched() > 1:
            pass
        elif self._saving:
            self._impatient = True
        else:
            self._raise()

    def _raise(self) -> None:
        raise Interrupted(
            f"stopped by {self.name} without waiting for the step; "
            "continue from the last checkpoint with --resume",
            self.number or signal.SIGINT,
        )
