"""What a run tells while it trains: tables, curves, log lines and, on a terminal, a bar."""

from __future__ import annotations

import time
from typing import Any

from sonoformer.run import Run
from sonoformer.training.curves import draw
from sonoformer.training.journal import Row, Table, tensorboard_writer
from sonoformer.training.pace import Pace
from sonoformer.training.plan import Plan
from sonoformer.training.processes import launched, leads
from sonoformer.training.progress import Bar

# Seconds between two drawings of the curves, which take a few tenths of a second each.
_REDRAW = 30.0


class Report:
    """Curves, speed and progress of one run; of several processes only the leader draws.

    Args:
        run: the folder.
        plan: the steps.
        first_step: steps that are done already; later rows of an earlier process are dropped.
        sample_rate: of the waveforms, in Hz.
        tensorboard: whether to write for TensorBoard too.
        progress: whether to show a bar; on a terminal only by default.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        first_step: int,
        sample_rate: int,
        tensorboard: bool = False,
        progress: bool | None = None,
    ) -> None:
        self.run, self.plan = run, plan
        self.metrics = Table(run.folder / "metrics.csv", first_step)
        self.timing = Table(run.folder / "timing.csv", first_step)
        self.pace = Pace(sample_rate, launched())
        self.bar = Bar(run, plan.total, first_step, progress if leads() else False)
        self._board: Any = None
        if tensorboard and leads():
            self._board = tensorboard_writer(run.folder / "tensorboard", first_step + 1)
        self._drawn = time.monotonic()

    def add(self, row: Row, validation: dict[str, float] | None = None) -> None:
        """Write a row of the curves; where validation is due, also a log line and the picture.

        Args:
            row: means of the training metrics.
            validation: its metrics; None between validations, empty without validation data.
        """
        milestone = validation is not None
        row = {**row, **{f"valid/{name}": value for name, value in (validation or {}).items()}}
        speed = self.pace.read()
        self.metrics.add(row)
        self.timing.add({"step": row["step"], **speed})
        if self._board is not None:
            for name, value in {**row, **{f"speed/{n}": v for n, v in speed.items()}}.items():
                if name != "step":
                    self._board.add_scalar(name, value, int(row["step"]))
        self.bar.tell(row.get("train/loss"), speed)
        if milestone:
            self.run.log(self._line(row, speed))
            self._draw(done=row["step"] == self.plan.total)

    def validation_at(self, step: int) -> dict[str, float]:
        """The metrics of the validation after `step`; empty where there was none."""
        found = [row for row in self.metrics.rows if row["step"] == step]
        items = found[-1].items() if found else ()
        return {n.removeprefix("valid/"): v for n, v in items if n.startswith("valid/")}

    def seconds(self) -> float:
        """Time spent on the run, over all processes that worked on it."""
        return sum(row["seconds"] + row["paused_seconds"] for row in self.timing.rows)

    def wait_share(self) -> float:
        """The part of the training time spent waiting for the loader."""
        waited = sum(row["seconds"] * row["wait_share"] for row in self.timing.rows)
        return waited / (sum(row["seconds"] for row in self.timing.rows) or 1.0)

    def advance(self, step: int) -> None:
        """Move the bar."""
        self.bar.advance(step)

    def close(self) -> None:
        """Take the bar away and close the files."""
        self.bar.close()
        if self._board is not None:
            self._board.close()

    def _draw(self, done: bool) -> None:
        if leads() and (done or time.monotonic() - self._drawn >= _REDRAW):
            with self.pace.paused():
                draw(self.metrics.rows, self.run.folder / "curves.png")
            self._drawn = time.monotonic()

    def _line(self, row: Row, speed: dict[str, float]) -> str:
        values = [f"{n} {v:.4g}" for n, v in row.items() if n.startswith(("train/", "valid/"))]
        line = f"step {row['step']}/{self.plan.total}, epoch {row['epoch']:.2f}: "
        line += ", ".join(values)
        if speed["clips_per_second"]:
            line += (
                f"; {speed['clips_per_second']:.3g} clips/s, "
                f"{speed['wait_share']:.0%} of the time waiting for data"
            )
        return line
