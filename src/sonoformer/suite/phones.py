"""The framewise task: a class every 10 ms, on tokens read at the frames' times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from sonoformer.data.manifest import Manifest
from sonoformer.data.sources import ClipSource
from sonoformer.data.views import Parts
from sonoformer.encoders import PatchEncoder, with_stride
from sonoformer.errors import UserError
from sonoformer.evaluation.framewise import FrameConfig, Frames, around, fit_frames
from sonoformer.evaluation.metrics import Answers
from sonoformer.spectral import FbankConfig, KaldiFbank
from sonoformer.suite.config import SuiteConfig
from sonoformer.suite.lesson import Lesson
from sonoformer.suite.listening import Listener, batches, token_bags
from sonoformer.suite.times import Cut, column_times
from sonoformer.suite.turns import Turn

STEP = 0.01
"""Seconds from one labelled frame to the next."""
_CONTEXT = 4
_HIDDEN = 256
_FLOOR = FbankConfig(n_mels=40)


def recordings(manifest: Manifest) -> Manifest:
    """A row a recording, in order of first appearance, with its fold and group."""
    first = manifest.table.unique("path", keep="first", maintain_order=True)
    whole = first.with_columns(
        start=pl.lit(0.0), end=pl.lit(None, pl.Float64), labels=pl.col("labels").list.head(1)
    )
    return replace(manifest, table=whole, classes_given=manifest.classes)


@dataclass(frozen=True, eq=False)
class Truth:
    """The frames of all recordings, one recording after the other.

    Attributes:
        recording: `(frames,)` row of the recording.
        time: `(frames,)` seconds: the middle of the frame.
        label: `(frames,)` class number.
        classes: names.
    """

    recording: NDArray[np.int64]
    time: NDArray[np.float64]
    label: NDArray[np.int64]
    classes: tuple[str, ...]


def truth_of(segments: Manifest, lesson: Lesson) -> Truth:
    """Every frame whose middle lies in a labelled stretch, of the recordings that can be read.

    Raises:
        UserError: a stretch without an end or with several labels.
    """
    classes = segments.classes
    number = {name: i for i, name in enumerate(classes)}
    row_of = {path: row for row, path in enumerate(lesson.clips.manifest.paths)}
    table = segments.table.filter(pl.col("path").is_in(list(row_of)))
    if table["end"].null_count() or (table["labels"].list.len() != 1).any():
        raise UserError(f"{segments.source}: a framewise task needs an end and one label a row")
    recording, time, label = [], [], []
    for path, start, end, names in table.select("path", "start", "end", "labels").iter_rows():
        # Frame i has its middle at (i + 1/2) STEP.
        frames = np.arange(np.ceil(start / STEP - 0.5), np.ceil(end / STEP - 0.5))
        time.append((frames + 0.5) * STEP)
        recording.append(np.full(len(frames), row_of[path]))
        label.append(np.full(len(frames), number[names[0]]))
    where, when = np.concatenate(recording), np.concatenate(time)
    order = np.lexsort((when, where))
    return Truth(where[order], when[order], np.concatenate(label)[order], classes)


class Overlapping(Parts):
    """Items cut into consecutive parts, each of which goes on a little into the next.

    Args:
        source: the items.
        samples: from one part to the next; the last of an item may be shorter.
        overhang: samples that a part goes on into the next.
    """

    def __init__(self, source: ClipSource, samples: int, overhang: int = 0) -> None:
        counts = np.maximum(1, -(-source.lengths // samples))
        rows = np.repeat(np.arange(len(source)), counts)
        starts = samples * (np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts))
        left = source.lengths[rows] - starts
        super().__init__(source, rows, starts, np.minimum(left, samples + overhang))


def token_frames(listener: Listener, truth: Truth) -> Frames:
    """Frames on an encoder's columns; parts are cut between columns."""
    encoder: Any = listener.encoder
    cut = Cut.of(encoder, listener.config.seconds)
    parts = Overlapping(listener.source, cut.samples, cut.overhang)
    bags = token_bags(listener, parts, f"{listener.data} {cut}")
    found, times = [], []
    for number, start in enumerate(parts.starts):
        columns = bags.columns(number)[: cut.columns]
        found.append(columns)
        times.append(start / encoder.sample_rate + column_times(encoder, len(columns)))
    ends = np.cumsum([0, *(len(columns) for columns in found)])
    first = np.searchsorted(parts.rows, np.arange(len(listener.source) + 1))
    return _placed(np.concatenate(found), np.concatenate(times), ends[first], truth)


def _placed(
    columns: NDArray, times: NDArray[np.float64], bounds: NDArray[np.int64], truth: Truth
) -> Frames:
    """Frames among the columns `bounds[r]` to `bounds[r + 1] - 1` of their recording r."""
    left = np.zeros(len(truth.time), np.int64)
    share = np.zeros(len(truth.time), np.float32)
    edges = np.searchsorted(truth.recording, np.arange(len(bounds)))
    for row in range(len(bounds) - 1):
        frames = slice(edges[row], edges[row + 1])
        own = times[bounds[row] : bounds[row + 1]]
        place, part = around(own, truth.time[frames])
        left[frames], share[frames] = place + bounds[row], part
    return Frames(columns, left, share, truth.label)


def mel_frames(source: ClipSource, truth: Truth, config: SuiteConfig, context: int) -> Frames:
    """Frames on log-mels, level removed, with neighbours up to `context` frames away."""
    bank = KaldiFbank(replace(_FLOOR, sample_rate=source.sample_rate))
    found: list[NDArray[np.float16]] = [np.zeros((0, 1), np.float16)] * len(source)
    with torch.inference_mode():
        for batch in batches(source, config):
            spec, lengths = bank(batch.wave, batch.lengths)
            for i, index in enumerate(batch.index.tolist()):
                mels = spec[i, : int(lengths[i])].numpy()
                mels = mels - mels.mean()
                padded = np.pad(mels, ((context, context), (0, 0)), mode="edge")
                shifted = [padded[k : k + len(mels)] for k in range(2 * context + 1)]
                found[index] = np.concatenate(shifted, 1).astype(np.float16)
    bounds = np.cumsum([0, *(len(part) for part in found)])
    hop, window = _FLOOR.hop_ms / 1000, _FLOOR.window_ms / 1000
    times = np.concatenate([np.arange(len(part)) * hop + window / 2 for part in found])
    return _placed(np.concatenate(found), times, bounds, truth)


def dense(encoder: nn.Module, stride: int | None) -> nn.Module:
    """The encoder with columns `stride` frames apart.

    Raises:
        UserError: this kind of encoder cannot be read more densely.
    """
    if stride is None:
        return encoder
    if not isinstance(encoder, PatchEncoder):
        raise UserError("frame_stride: this encoder has a fixed time step; leave the option away")
    return with_stride(encoder, (encoder.config.stride[0], stride)).eval()


def frame_turn(
    frames: Frames,
    truth: Truth,
    lesson: Lesson,
    turn: Turn,
    config: FrameConfig,
    seed: int,
    hidden: int = 0,
) -> Answers:
    """Answers about the frames of the tested recordings."""
    names = lesson.column("group")
    kept = np.isin(truth.recording, turn.train)
    tested = np.isin(truth.recording, turn.test)
    probe = fit_frames(
        frames.rows(kept),
        len(truth.classes),
        groups=names[truth.recording[kept]],
        hidden=hidden,
        config=config,
        seed=seed,
    )
    scores = probe.probabilities(frames.rows(tested))
    targets = np.zeros(scores.shape, bool)
    targets[np.arange(len(targets)), truth.label[tested]] = True
    where = names[truth.recording[tested]]
    times = truth.time[tested]
    clips = tuple(f"{name} {time:.3f}" for name, time in zip(where, times, strict=True))
    return Answers(truth.classes, scores, targets, single=True, clips=clips, groups=tuple(where))


FLOORS: dict[str, tuple[int, int]] = {"linear": (0, 0), "mlp": (_CONTEXT, _HIDDEN)}
"""Floor of the framewise task -> frames of context on both sides, width of the hidden layer."""
