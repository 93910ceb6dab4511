"""A classifier over recordings of any length."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from sonoformer.audio import find
from sonoformer.errors import UserError
from sonoformer.inference.engine import Report, Settings, compute_table
from sonoformer.inference.formats import PLACE
from sonoformer.inference.identity import fingerprint
from sonoformer.nn.computing import evaluating
from sonoformer.settings import build
from sonoformer.spectral.fixed import refuse_unheard
from sonoformer.tasks.model import Model


def predict(
    model: Model,
    paths: Sequence[Path],
    settings: Settings,
    work: Path,
    *,
    progress: Callable[[float, float], None] | None = None,
) -> Report:
    """Scores of every window of every recording; resumable, in constant memory.

    Args:
        model: the classifier, on the device that it shall use.
        paths: recordings.
        settings: how they are cut.
        work: folder of the finished parts; a later call with the same model and settings goes on.
        progress: called with (seconds of sound done, seconds in all).

    Returns:
        Where the rows are: `path, start, end, clock`, and a column of scores a class.

    Raises:
        UserError: windows longer than the model hears.
    """
    refuse_unheard(model.front, settings.window, "window")
    names = score_columns(model.classes)

    def compute(wave: Tensor, lengths: Tensor) -> pl.DataFrame:
        scores = model.predict_waveforms(wave, lengths).numpy()
        return pl.DataFrame(dict(zip(names, scores.T, strict=True)))

    with evaluating(model):
        return compute_table(
            paths,
            compute,
            model.sample_rate,
            settings,
            work,
            identity=fingerprint(model),
            device=next(model.parameters()).device,
            progress=progress,
        )


def predict_table(model: Model, paths: Sequence[str | Path], **options: Any) -> pl.DataFrame:
    """As `predict`, for a table that fits into memory; see `Model.predict`."""
    settings = build(Settings, options, "predict")
    with tempfile.TemporaryDirectory(prefix="sonoformer-") as work:
        report = predict(model, find(paths), settings, Path(work))
        for path, reason in report.problems:
            warnings.warn(f"{path}: {reason}; left out", stacklevel=3)
        for path, text in report.remarks:
            warnings.warn(f"{path}: {text}", stacklevel=3)
        table = report.table()
        if table is None:
            raise UserError(f"{', '.join(map(str, paths))}: no recording could be read")
        return table.collect()


def score_columns(classes: Sequence[str]) -> list[str]:
    """A column name for each class: its own, unless that is a column of place."""
    taken = {*PLACE, *classes}
    names = {}
    for name in classes:
        column = name
        while column in PLACE or (column != name and column in taken):
            column += " (class)"
        names[name] = column
    return list(names.values())
