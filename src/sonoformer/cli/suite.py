"""`sonoformer suite`."""

from __future__ import annotations

from pathlib import Path

from sonoformer.cli.judging import Cache, Data, Options, judge
from sonoformer.cli.options import Device, Out, Overwrite, Seed
from sonoformer.suite.config import SuiteConfig


def suite(
    checkpoints: tuple[Path, ...] = (),
    /,
    *,
    out: Out = Path("runs/suite"),
    config: Options = SuiteConfig(),
    data: Data = None,
    cache: Cache = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Judge encoders over the task suite: one table with floors, seeds and intervals.

    An interrupted run goes on where it stopped when the same command is given again.

    Example: sonoformer suite runs/pretrain --out runs/suite --random

    Parameters
    ----------
    checkpoints
        Runs, checkpoints or weights files; without any, only the floors are measured.
    """
    judge(
        "suite",
        checkpoints,
        out,
        config,
        data=data,
        cache=cache,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )
