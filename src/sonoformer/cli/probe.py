"""`sonoformer probe`."""

from __future__ import annotations

from pathlib import Path

from sonoformer.cli.judging import Cache, Data, Options, judge
from sonoformer.cli.options import Device, Out, Overwrite, Seed
from sonoformer.suite.config import SuiteConfig


def probe(
    checkpoint: Path,
    /,
    *,
    out: Out = Path("runs/probe"),
    config: Options = SuiteConfig(),
    data: Data = None,
    cache: Cache = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Judge a frozen encoder by probes of several kinds, over tasks or tables of your own.

    An interrupted run goes on where it stopped when the same command is given again.

    Example: sonoformer probe runs/pretrain --tasks labels.csv --probes linear attentive knn

    Parameters
    ----------
    checkpoint
        A run, checkpoint or weights file.
    """
    judge(
        "probe",
        [checkpoint],
        out,
        config,
        data=data,
        cache=cache,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )
