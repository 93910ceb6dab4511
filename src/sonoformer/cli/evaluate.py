"""`sonoformer evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.options import Device, Out, Overwrite, progress_bar, say
from sonoformer.cli.tables import Columns, Root, Separator, read_labels
from sonoformer.data.columns import ColumnMap
from sonoformer.run import Run
from sonoformer.tasks.evaluate import evaluate as run_evaluation
from sonoformer.tasks.model import load_model
from sonoformer.training.devices import resolve_device


def evaluate(
    labels: Path,
    /,
    *,
    model: Annotated[Path, Parameter(help="Run of finetune, or its model folder.")] = Path(
        "runs/finetune"
    ),
    out: Out = Path("runs/evaluate"),
    split: Annotated[
        str | None, Parameter(help="Only rows of this split, such as test; all if absent.")
    ] = None,
    seconds: Annotated[
        float,
        Parameter(help="Longest stretch scored at once; scores of longer clips are averaged."),
    ] = 10.0,
    batch_size: Annotated[int, Parameter(help="Windows computed at once.")] = 16,
    resamples: Annotated[int, Parameter(help="Bootstrap samples behind each interval.")] = 1000,
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    root: Root = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Score a model on labelled recordings: metrics with intervals, predictions, a report.

    With `--events` two tables of events are compared; see `sonoformer evaluate --events --help`.

    Example: sonoformer evaluate labels.csv --model runs/finetune --split test

    Parameters
    ----------
    labels
        A table with a row a clip, or a folder with a folder for each class.
    """
    manifest = read_labels(labels, columns, separator, root)
    where = resolve_device(device)
    loaded = load_model(model, where)
    options = {"labels": str(labels), "model": str(model), "split": split, "seconds": seconds}
    with Run.start(out, "evaluate", options, 0, overwrite=overwrite) as run:
        with progress_bar("scoring", "windows") as progress:
            card = run_evaluation(
                loaded,
                manifest,
                run,
                split=split,
                seconds=seconds,
                batch_size=batch_size,
                resamples=resamples,
                device=where,
                progress=progress,
            )
        for name, interval in card.figures.items():
            say(f"{name}: {interval}")
        say(f"report: {out / 'report.html'}")
