"""What the verbs that listen to recordings (`predict`, `detect`, `embed`) say of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.inference.engine import Report
from sonoformer.nn.computing import side_by_side
from sonoformer.run import Run

_TRIED = 8  # batches


def note(run: Run, report: Report) -> None:
    """Skipped recordings and remarks go to the log and to problems.csv.

    Raises:
        UserError: nothing could be read.
    """
    run.forget_problems()  # of a run before this one; those that remain are in the report
    for path, reason in report.problems:
        run.problem(path, reason)
    for path, text in report.remarks:
        run.log(f"{path}: {text}")
    if not report.parts:
        raise UserError("no recording could be read; problems.csv in --out lists the reasons")


def figures(report: Report, seconds: float) -> dict[str, float]:
    """Plain values for `metrics.json`; `seconds` is how long it took."""
    return {
        "recordings": len(report.durations),
        "windows": report.windows + report.resumed,
        "resumed": report.resumed,
        "skipped": len(report.problems),
        "seconds_of_sound": sum(report.durations.values()),
        "seconds": seconds,
    }


def pace(report: Report, seconds: float) -> str:
    """How many times faster than real time what was computed now was; empty if nothing was."""
    if not report.windows:
        return ""
    share = report.windows / (report.windows + report.resumed)
    speed = sum(report.durations.values()) * share / max(seconds, 1e-9)
    return f"{speed:.0f} times real time"


def seconds_a_batch(
    compute: Callable[[Tensor], object], wave: Tensor, device: torch.device
) -> float:
    """How long a batch takes, measured on a few of silence as the engine computes them.

    Args:
        compute: the model.
        wave: `(batch, samples)`.
        device: where the model is.
    """

    def once(silence: Tensor) -> None:
        with torch.inference_mode():
            compute(silence)

    list(side_by_side(once, [wave] * 2, device))
    began = time.perf_counter()
    list(side_by_side(once, [wave] * _TRIED, device))
    return (time.perf_counter() - began) / _TRIED
