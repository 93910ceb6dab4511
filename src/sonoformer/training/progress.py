"""A bar on a terminal: steps, loss, clips/s, audio seconds/s, waiting and time left."""

from __future__ import annotations

import sys
from typing import Any

from sonoformer.run import Run


class Bar:
    """The progress of training, shown on a terminal only.

    While the bar is shown, the run's log lines go above it.
    """

    def __init__(self, run: Run, total: int, done: int, show: bool | None = None) -> None:
        self.shown = sys.stderr.isatty() if show is None else show
        self._run, self._echo = run, run.echo
        self._bar: Any = None
        if self.shown:
            self._open(total, done)

    def _open(self, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        console = Console(stderr=True)
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeLeft())
        self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
        self._task = self._bar.add_task("training", total=total, completed=done, note="")
        self._bar.start()
        if self._echo is not None:
            self._run.echo = lambda text: self._bar.console.print(text, markup=False)

    def tell(self, loss: float | None, speed: dict[str, float]) -> None:
        """Change the words beside the bar."""
        if self._bar is not None:
            shown = "" if loss is None else f"loss {loss:.4g}  "
            self._bar.update(
                self._task,
                note=f"{shown}{speed['clips_per_second']:.3g} clips/s  "
                f"{speed['audio_seconds_per_second']:.3g} s audio/s  "
                f"waiting {speed['wait_share']:.0%}",
            )

    def advance(self, step: int) -> None:
        """Move the bar to `step`."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def close(self) -> None:
        """Leave the bar as it stands and give the log its old way back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._run.echo = self._echo
