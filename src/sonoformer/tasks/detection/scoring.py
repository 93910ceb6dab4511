"""What a detector says of labelled recordings, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from sonoformer.data.events import STRETCHES
from sonoformer.data.sources import FULL_SCALE
from sonoformer.data.strong import Truth
from sonoformer.errors import AudioError, UserError
from sonoformer.evaluation.events.frames import FrameScores
from sonoformer.evaluation.metrics import Answers
from sonoformer.inference.overlap import Join, OverlapAdd, WindowPlan
from sonoformer.nn.computing import evaluating, side_by_side
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.scoring import group_names
from sonoformer.training.devices import autocast

Problem = Callable[[str, str], None]
Progress = Callable[[int, int], None]
_Window = tuple[int, int, NDArray[np.float32], int]
"""Recording, number, sound padded to a window, and how many samples of it are real."""
AT = " @ "
"""Between a recording's name and a frame's time in the names of frames."""


def window_plan(
    model: Detector, seconds: float, overlap: float, join: Join = "triangle"
) -> WindowPlan:
    """Windows of about `seconds` that begin on columns.

    Raises:
        UserError: they would be shorter than a column.
    """
    columns = model.grid.count(round(seconds * model.sample_rate))
    if not columns:
        raise UserError(
            f"window: {seconds:g} s are less than one column of tokens, "
            f"{model.grid.needed(1) / model.sample_rate:.3f} s"
        )
    return WindowPlan.of(columns, overlap, join)


@dataclass(frozen=True, eq=False)
class Scored:
    """Frame scores of recordings.

    Attributes:
        scores: `(frames, classes)` in [0, 1] of each recording; none where it cannot be read.
        start: seconds at which frame 0 begins.
        step: seconds a frame.
    """

    scores: list[NDArray[np.float32]]
    start: float
    step: float


def frame_scores(
    model: Detector,
    clips: Clips,
    *,
    seconds: float,
    overlap: float = 0.5,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Progress | None = None,
    problem: Problem | None = None,
) -> Scored:
    """Scores of every frame of recordings, as `detect` gives them.

    Args:
        model: the detector; moved to `device`.
        clips: the recordings.
        seconds, overlap: windows.
        batch_size: windows a batch.
        device, precision: where and how to compute.
        progress: called with (windows done, windows in all).
        problem: called with (path, reason) for a recording that cannot be read.

    Raises:
        UserError: the model gives scores that are not finite.
    """
    device, grid = torch.device(device), model.grid
    plan = window_plan(model, seconds, overlap)
    model = model.to(device)
    adders = [OverlapAdd(plan, len(model.classes)) for _ in range(len(clips))]
    parts: list[list[NDArray[np.float32]]] = [[] for _ in range(len(clips))]
    places = [
        (item, index)
        for item, samples in enumerate(clips.source.lengths.tolist())
        for index in range(plan.count(grid.count(samples)))
    ]
    waves = _windows(clips, places, plan, model, problem)
    batches = iter(lambda: list(islice(waves, batch_size)), [])
    done = 0

    def computed(batch: list[_Window]) -> tuple[list[_Window], NDArray[np.float32]]:
        wave = torch.from_numpy(np.stack([sound for _, _, sound, _ in batch]))
        lengths = torch.tensor([real for _, _, _, real in batch])
        with autocast(precision, device):
            return batch, model.frame_logits(wave, lengths)[0].numpy()

    with evaluating(model):
        for batch, logits in side_by_side(computed, batches, device):
            if not np.isfinite(logits).all():
                raise UserError(
                    f"{clips.names[batch[0][0]]}: the model gives no finite score; its training "
                    "diverged: load an earlier checkpoint, or train with a lower rate"
                )
            for row, (item, index, _, real) in zip(logits, batch, strict=True):
                columns = grid.count(real) or int(index == 0)
                parts[item].append(adders[item].add(index, row[: min(columns, plan.columns)]))
            done += len(batch)
            if progress is not None:
                progress(done, len(places))
    whole = [np.concatenate([*p, a.end()]) for p, a in zip(parts, adders, strict=True)]
    found = [model.frame_scores(track) for track in whole]
    return Scored(found, grid.first - grid.step / 2, grid.step)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits -> scores in [0, 1]."""
    return torch.from_numpy(logits).sigmoid().numpy()


def _windows(
    clips: Clips,
    places: list[tuple[int, int]],
    plan: WindowPlan,
    model: Detector,
    problem: Problem | None,
) -> Iterator[_Window]:
    needed, hop = model.grid.needed(plan.columns), plan.hop * model.grid.samples
    bad: set[int] = set()
    for item, index in places:
        if item in bad:
            continue
        try:
            sound = clips.source.read(item, index * hop, needed)
        except AudioError as error:
            bad.add(item)
            if problem is not None:
                problem(str(error.path), error.reason)
            continue
        padded = np.zeros(needed, np.float32)
        padded[: len(sound)] = sound / FULL_SCALE if sound.dtype == np.int16 else sound
        if len(sound):
            yield item, index, padded, len(sound)


def frame_answers(model: Detector, clips: Clips, truth: Truth, scored: Scored) -> Answers:
    """Every frame as a question of its own, grouped by recording for intervals."""
    targets, known, names = [], [], []
    for item, scores in enumerate(scored.scores):
        edges = model.grid.edges(len(scores))
        present, sure = truth.cells(item, edges)
        targets.append(present >= 0.5)
        known.append(sure)
        middles = (edges[:-1] + edges[1:]) / 2
        names += [f"{clips.names[item]}{AT}{time:.3f} s" for time in middles]
    groups = group_names(clips.manifest) or tuple(clips.names)
    frames = [len(scores) for scores in scored.scores]
    return Answers(
        classes=model.classes,
        scores=np.concatenate(scored.scores),
        targets=np.concatenate(targets),
        single=False,
        known=np.concatenate(known),
        clips=tuple(names),
        groups=tuple(g for g, count in zip(groups, frames, strict=True) for _ in range(count)),
        thresholds=np.asarray(model.thresholds, np.float32),
    )


def tracks(model: Detector, clips: Clips, truth: Truth, scored: Scored) -> list[FrameScores]:
    """The same frames for the measures of events, a recording each."""
    found = []
    for item, (name, scores) in enumerate(zip(recording_names(clips), scored.scores, strict=True)):
        present, known = truth.cells(item, model.grid.edges(len(scores)))
        there = (present >= 0.5) & known
        seconds = float(truth.lengths[item])
        found.append(FrameScores(name, scores, scored.step, scored.start, there, known, seconds))
    return found


def recording_names(clips: Clips) -> list[str]:
    """A name for each recording: its path, and the channel where one is named."""
    rows = clips.manifest.table.select("path", "channel").iter_rows()
    return [path if channel is None else f"{path}, channel {channel}" for path, channel in rows]


def true_events(clips: Clips, truth: Truth) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The events of recordings by `recording_names`; and the stretches in which every event was
    marked, None if that is all of them."""
    names = recording_names(clips)
    spans = [truth.known_stretches(item) for item in range(len(truth))]
    table = truth.table(names, [None] * len(names))
    if all(known == [(0.0, s)] for known, s in zip(spans, truth.lengths.tolist(), strict=True)):
        return table, None
    rows = [(name, *span) for name, known in zip(names, spans, strict=True) for span in known]
    return table, pl.DataFrame(rows, STRETCHES, orient="row")
