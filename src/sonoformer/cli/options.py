"""Options that several verbs share, and what they turn into."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sonoformer.training.processes import leads

Out = Annotated[Path, Parameter(help="Folder to write: settings, log, metrics, results.")]
Seed = Annotated[int, Parameter(help="Seed of everything random.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps.")]
Recipe = Annotated[
    str | None, Parameter(help="A published experiment's options by name, or a YAML file.")
]
Profile = Annotated[
    str | None,
    Parameter(
        help="A variant of the recipe; reference does all as the authors' program does, for "
        "comparison with published results."
    ),
]
Resume = Annotated[bool, Parameter(help="Go on with the interrupted run in --out.", negative="")]
Overwrite = Annotated[bool, Parameter(help="Replace an earlier run in --out.", negative="")]
DryRun = Annotated[
    bool, Parameter(help="Print the estimated time, memory and disk, and stop.", negative="")
]
Speed = Annotated[
    float | None,
    Parameter(
        help="Play recordings so many times as fast to it: 10 brings infrasound to a model of "
        "audible sound, 0.1 ultrasound; windows and times stay those of the recordings."
    ),
]

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for the person at the terminal; of several processes only the leader speaks."""
    if leads():
        console.print(text, markup=False)


@contextmanager
def progress_bar(text: str, unit: str = "") -> Iterator[Callable[[float, float], None]]:
    """A bar with rate and time left on a terminal; silent elsewhere.

    Yields a function that takes (done, in all).
    """
    if not sys.stderr.isatty() or not leads():
        yield lambda done, total: None
        return
    rate = "{task.speed:,.1f} " + unit + "/s"

    class Rate(TextColumn):
        def render(self, task):  # type: ignore[no-untyped-def]
            return "" if task.speed is None else super().render(task)

    bar = Progress(
        TextColumn(text),
        BarColumn(),
        TaskProgressColumn(),
        Rate(rate),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
