"""`sonoformer finetune`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.opening import open_run
from sonoformer.cli.options import (
    Device,
    DryRun,
    Out,
    Overwrite,
    Profile,
    Recipe,
    Resume,
    Seed,
    progress_bar,
    say,
)
from sonoformer.cli.tables import Columns, Root, Separator, read_labels
from sonoformer.data.columns import ColumnMap
from sonoformer.run import Run
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import cost
from sonoformer.tasks.finetune import finetune as run_finetuning


def finetune(
    labels: Path,
    /,
    *,
    init: Annotated[
        Path | None,
        Parameter(help="Pretrained run, checkpoint or weights file; random weights if absent."),
    ] = None,
    out: Out = Path("runs/finetune"),
    recipe: Recipe = None,
    profile: Profile = None,
    config: Annotated[FinetuneConfig, Parameter(name="*")] = FinetuneConfig(),
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    root: Root = None,
    cache: Annotated[
        Path | None, Parameter(help="Folder of the decoded sound; --out/cache if absent.")
    ] = None,
    pack: Annotated[bool, Parameter(help="Decode the recordings once, before training.")] = True,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train a classifier from labelled recordings, and test it on clips it has never met.

    Example: sonoformer finetune labels.csv --init runs/pretrain --recipe small

    Parameters
    ----------
    labels
        A table (.csv, .tsv, .parquet) with a row a clip, or a folder with a folder for each class.
    """
    manifest, config = read_labels(labels, columns, separator, root), config.with_rate()
    if dry_run:
        with TemporaryDirectory() as scratch:
            trial = Run.start(Path(scratch) / "run", "finetune", config, seed)
            estimate, trainings, hours = cost(
                manifest, init, config, trial, seed=seed, device=device
            )
            trial.finish("dry run")
        say(f"{hours:.2f} h of sound; {trainings} trainings, each {estimate}")
        return
    folder = None if not pack else (cache or out / "cache")
    with open_run(out, "finetune", config, seed, device, resume=resume, overwrite=overwrite) as run:
        run.log(f"sonoformer finetune {labels}", show=False)
        with progress_bar("reading recordings", "clips") as progress:
            done = run_finetuning(
                manifest,
                init,
                config,
                run,
                seed=seed,
                device=device,
                resume=resume,
                cache=folder,
                progress=progress,
            )
        say(f"report: {out / 'report.html'}")
        for model in done.models:
            say(f"model: {model}")
