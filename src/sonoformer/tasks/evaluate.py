"""A trained classifier on labelled recordings that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.evaluation import sections
from sonoformer.evaluation.predictions import save_predictions
from sonoformer.evaluation.report import Report
from sonoformer.evaluation.scorecard import Scorecard, scorecard
from sonoformer.run import Run
from sonoformer.tasks.clips import open_clips
from sonoformer.tasks.model import Model
from sonoformer.tasks.outcome import reader
from sonoformer.tasks.scoring import answers_about, score_clips, unknown_notice

Progress = Callable[[int, int], None]


def evaluate(
    model: Model,
    manifest: Manifest,
    run: Run,
    *,
    split: str | None = None,
    seconds: float = 10.0,
    batch_size: int = 16,
    resamples: int = 1000,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Scorecard:
    """Score a model; leaves `metrics.json`, `predictions.parquet` and `report.html`.

    Args:
        model: the classifier.
        manifest: labelled recordings.
        run: the folder.
        split: only rows of this split.
        seconds: longest stretch that is scored at once.
        batch_size: most windows a batch.
        resamples: bootstrap samples behind each interval.
        device: where to compute.
        progress: called with (windows done, windows in all).

    Raises:
        UserError: no labels, no rows of that split, or no label that the model knows.
    """
    manifest.require_labels()
    if split is not None:
        parts = manifest.values("split")
        if split not in parts:
            known = ", ".join(parts) or "no split column"
            raise UserError(f"--split {split}: {manifest.source} has {known}")
        manifest = manifest.where(manifest.table["split"] == split)
    if notice := unknown_notice(manifest, model.classes):
        run.log(notice)
    clips = open_clips(manifest, model.sample_rate, None, problem=run.problem)
    scores = score_clips(
        model, clips, seconds=seconds, batch_size=batch_size, device=device, progress=progress
    )
    answers = answers_about(model, clips, scores)
    if not np.any(answers.labelled):
        raise UserError(f"{manifest.source}: none of its labels is a class of the model")
    card = scorecard(answers, resamples=resamples)
    run.metrics(card.to_dict())
    save_predictions(run.folder / "predictions.parquet", answers)
    report = Report(run.folder.resolve().name, f"{card.clips} clips, {len(card.classes)} classes")
    report.add(sections.result(card))
    report.add(sections.classes(card))
    errors = sections.errors({"": answers}, reader(clips))
    if errors is not None:
        report.add(errors)
    facts: dict[str, Any] = {"split": split, "seconds": seconds, "source": manifest.source}
    report.add(sections.settings(facts, {}, run.problems))
    report.write(run.folder / "report.html")
    return card
