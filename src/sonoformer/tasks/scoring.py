"""A model's answers about labelled clips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.data.classes import targets, unknown_labels
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.manifest import Manifest
from sonoformer.data.splits import group_index
from sonoformer.data.views import Windows
from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import Answers
from sonoformer.nn.computing import evaluating, side_by_side
from sonoformer.spectral.fixed import refuse_unheard
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.model import Model
from sonoformer.training.devices import autocast, resolve_precision

Progress = Callable[[int, int], None]
Problem = Callable[[str, str], None]


def score_clips(
    model: Model,
    clips: Clips,
    *,
    seconds: float = 10.0,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    progress: Progress | None = None,
    problem: Problem | None = None,
) -> NDArray[np.float32]:
    """Scores `(clips, classes)` in [0, 1]; NaN for a clip that cannot be read.

    A clip longer than `seconds` is cut into windows of that length that cover it evenly; their
    scores are averaged.

    Args:
        model: the classifier; moved to `device`.
        clips: the sound.
        seconds: longest stretch that the model sees at once.
        batch_size: most windows a batch.
        device: where to compute.
        precision: fp32, bf16 or auto.
        progress: called with (windows done, windows in all).
        problem: called with (path, reason) for each recording that cannot be read.

    Raises:
        UserError: the model gives scores that are not finite, or hears less than `seconds`.
    """
    refuse_unheard(model.front, seconds, "seconds")
    device = torch.device(device)
    windows = Windows(clips.source, max(1, round(seconds * model.sample_rate)))
    loader = EvaluationLoader(ClipDataset(windows, crop=None, seed=0, train=False), batch_size)
    kind = resolve_precision(precision, device)  # type: ignore[arg-type]
    model = model.to(device)
    scores = np.full((len(windows), len(model.classes)), np.nan, np.float32)
    done = 0

    def computed(batch: Batch) -> tuple[NDArray[np.int64], Tensor]:
        with autocast(kind, device):
            return batch.index.numpy(), model.predict_waveforms(batch.wave, batch.lengths)

    with evaluating(model):
        for index, part in side_by_side(computed, loader, device):
            if not part.isfinite().all():
                name = windows.name(int(index[~part.isfinite().all(1).numpy()][0]))
                raise UserError(
                    f"{name}: the model gives no finite score; its training diverged: load an "
                    "earlier checkpoint, or train with a lower rate"
                )
            scores[index] = part.float().numpy()
            done += len(index)
            if progress is not None:
                progress(done, len(windows))
    for path, reason in loader.problems.items():
        if problem is not None:
            problem(path, reason)
    return windows.means(scores)


def answers_about(model: Model, clips: Clips, scores: NDArray[np.float32]) -> Answers:
    """Scores beside what the manifest says of the clips.

    A label that is none of the model's classes leaves its clip unscored (single label), or is left
    out (several labels); see `unknown_notice`. A clip without scores counts as one of which nothing
    is known.
    """
    present, known = targets(
        clips.manifest, model.classes, multi_label=not model.single, strict=False
    )
    heard = np.isfinite(scores).all(1, keepdims=True)
    return Answers(
        classes=model.classes,
        scores=np.where(heard, scores, np.float32(0)),
        targets=(present > 0) & heard,
        single=model.single,
        known=known & heard,
        clips=tuple(clips.names),
        groups=group_names(clips.manifest),
        thresholds=np.asarray(model.thresholds, np.float32),
    )


def unknown_notice(manifest: Manifest, classes: tuple[str, ...]) -> str:
    """A sentence about labels that are none of `classes`; empty if there are none."""
    strange = unknown_labels(manifest, classes)
    if not strange:
        return ""
    shown = ", ".join(f"{name} ({count})" for name, count in list(strange.items())[:6])
    more = f" and {len(strange) - 6} more" if len(strange) > 6 else ""
    return (
        f"{sum(strange.values())} clips to be tested carry labels that no training clip has: "
        f"{shown}{more}. The model cannot know them; they do not count in the scores."
    )


def group_names(manifest: Manifest) -> tuple[str, ...] | None:
    """A name for the group of each row, for the bootstrap; None if every row is its own group.

    Rows without a group are named after their file, so that names of other folds are others.
    """
    groups = group_index(manifest)
    if groups.max() + 1 == len(manifest):
        return None
    names = manifest.table.select(pl.coalesce("group", "path")).to_series().to_list()
    first: dict[int, str] = {}
    return tuple(first.setdefault(int(n), name) for n, name in zip(groups, names, strict=True))
