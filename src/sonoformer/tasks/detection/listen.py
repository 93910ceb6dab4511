"""A detector over recordings of any length.

The expensive part, windows through the model, is `inference.compute_table`: blocks of windows on
disk, resumed after any interruption. What follows goes through these blocks in order: windows are
put together to frames, frames become events. It costs little, so it is done anew each time.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sonoformer.audio import find
from sonoformer.audio.dead import dead_channels
from sonoformer.data.annotations.recordings import table_names
from sonoformer.data.events import events
from sonoformer.encoders.columns import row_hertz
from sonoformer.errors import AudioError, UserError
from sonoformer.evaluation.events.post import PostConfig
from sonoformer.inference.engine import Report, Settings, compute_table
from sonoformer.inference.identity import fingerprint
from sonoformer.inference.listening import Remark
from sonoformer.inference.overlap import Join, WindowPlan
from sonoformer.nn.computing import evaluating
from sonoformer.settings import build
from sonoformer.spectral.fixed import refuse_unheard
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scorefile import ScoreFile, ScoreFormat
from sonoformer.tasks.detection.scoring import window_plan
from sonoformer.tasks.detection.track import Track, row_extent
from sonoformer.training.devices import autocast, resolve_precision

Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class DetectConfig:
    """How recordings are listened to."""

    window: float | None = None
    """Seconds seen at once; those of the training if absent. Windows begin on time steps of the
    model, so that they are a little shorter than this."""
    overlap: float = 0.5
    """Share of a window that the next one repeats, 0 to below 1."""
    join: Join = "triangle"
    """triangle: where windows overlap, each counts more the farther a moment is from its ends;
    centre: only the window in whose middle the moment lies."""
    batch_size: int | None = None
    """Windows computed at once. By default 20 s of sound on a CPU, whose caches hold little more,
    and 160 s elsewhere."""
    channel: int | None = None
    """Channel to listen to, counted from 0; the mean of all when absent."""
    readers: int = 2
    """Recordings (or parts of a long one) that are decoded at the same time."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """auto: bf16 where the device computes it fast."""
    threshold: float | None = None
    """Score at which an event of any class begins and ends; the model's own for each if absent."""

    def __post_init__(self) -> None:
        if self.window is not None and not 0 < self.window < float("inf"):
            raise UserError(f"window: must be above 0 seconds; got {self.window}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(f"threshold: must be above 0 and at most 1; got {self.threshold}")
        # The others are checked where they are used; here, so that a mistake is said at once.
        WindowPlan.of(1, self.overlap)
        Settings(batch_size=self.batch_size, channel=self.channel, readers=self.readers)

    def post(self, model: Detector) -> PostConfig:
        """How scores become events."""
        if self.threshold is None:
            return model.post
        at = partial(replace, high=self.threshold, low=None)
        classes = {name: at(post) for name, post in model.post.classes.items()}
        return PostConfig(at(model.post.default), classes)


@dataclass
class Detected:
    """What was found.

    Attributes:
        events: an events table, sorted by recording, in the order given, and start.
        report: what was listened to: lengths, skipped recordings, remarks.
        scores: files of frame scores.
    """

    events: pl.DataFrame
    report: Report
    scores: list[Path]


def detect(
    model: Detector,
    paths: Sequence[Path],
    config: DetectConfig,
    work: Path,
    *,
    scores: ScoreFormat = "none",
    out: Path | None = None,
    progress: Progress | None = None,
) -> Detected:
    """Find events in recordings; resumable, in constant memory but for the events themselves.

    Args:
        model: the detector, on the device that it shall use.
        paths: recordings.
        config: how they are listened to.
        work: folder of the finished parts; a later call with the same model, recordings and windows
            goes on there.
        scores: write the frame scores too, a file a recording.
        out: folder of these files.
        progress: called with (seconds of sound done, seconds in all).

    Raises:
        UserError: windows that the model cannot hear.
    """
    seconds = model.seconds if config.window is None else config.window
    refuse_unheard(model.front, seconds, "window")
    plan = window_plan(model, seconds, config.overlap, config.join)
    hertz = row_hertz(model.encoder) if model.config.frames == "full" else None
    with evaluating(model):
        report = compute_table(
            paths,
            _compute(model, plan, config, hertz is not None),
            model.sample_rate,
            window_settings(model, plan, config),
            work,
            identity=f"{fingerprint(model)} frames {config.precision}",
            device=next(model.parameters()).device,
            progress=progress,
        )
    report.remarks += _dead(report, config.channel)
    names, start = table_names(report.durations), model.grid.first - model.grid.step / 2
    found, files = [events()], []
    for path, windows in _by_recording(report):
        file = None
        if scores != "none" and out is not None:
            target = out / f"{names[path]}.{scores}"
            file = ScoreFile(target, model.classes, start, model.grid.step)
            files.append(target)
        track = Track(
            model,
            plan,
            config.post(model),
            path=path,
            channel=config.channel,
            file=file,
            hertz=hertz,
        )
        for begins, real, values in windows:
            index = round(begins / (plan.hop * model.grid.step))
            track.add(index, values.reshape(plan.columns, -1), real)
        found.append(track.finish(report.durations[path]))
    return Detected(pl.concat(found), report, files)


def window_settings(model: Detector, plan: WindowPlan, config: DetectConfig) -> Settings:
    """Windows that begin on columns, for the engine."""
    samples, hop = model.grid.needed(plan.columns), plan.hop * model.grid.samples
    if hop > samples:
        # Between patches that do not touch, sound is left out by the model itself.
        samples = hop
    return Settings(
        window=samples / model.sample_rate,
        overlap=1 - hop / samples,
        batch_size=config.batch_size,
        channel=config.channel,
        shortest=0.0,
        readers=config.readers,
    )


def _compute(
    model: Detector, plan: WindowPlan, config: DetectConfig, bands: bool
) -> Callable[[Tensor, Tensor], pl.DataFrame]:
    """What runs over every batch of windows: a column of frame logits (and rows) a window."""
    device = next(model.parameters()).device
    precision = resolve_precision(config.precision, device)

    def compute(wave: Tensor, lengths: Tensor) -> pl.DataFrame:
        with autocast(precision, device):
            logits, cells = model.frame_logits(wave, lengths)
        # A model of a fixed number of frames gives columns of padding too.
        values, cells = logits[:, : plan.columns].numpy(), cells[:, : plan.columns]
        if bands:
            values = np.concatenate([values, row_extent(cells.numpy())], -1)
        if not np.isfinite(values).all():
            raise UserError("the model gives no finite score; load an earlier checkpoint")
        flat = np.ascontiguousarray(values.reshape(len(values), -1))
        real = [model.grid.count(count) for count in lengths.tolist()]
        kind = pl.Array(pl.Float32, flat.shape[1])
        columns = [pl.Series("real", real, pl.Int32), pl.Series("values", flat, kind)]
        return pl.DataFrame(columns)

    return compute


def _by_recording(
    report: Report,
) -> Iterator[tuple[str, Iterator[tuple[float, int, np.ndarray]]]]:
    """Each recording with its windows (start, real columns, values); use up one before the next."""
    rows = _rows(report)
    following = next(rows, None)
    while following is not None:
        path = following[0]

        def windows(path: str = path) -> Iterator[tuple[float, int, np.ndarray]]:
            nonlocal following
            while following is not None and following[0] == path:
                yield following[1:]
                following = next(rows, None)

        yield path, windows()


def _rows(report: Report) -> Iterator[tuple[str, float, int, np.ndarray]]:
    for part in report.parts:
        table = pl.read_parquet(part)
        values = table["values"].to_numpy()
        place = table.select("path", "start", "real").iter_rows()
        for (path, start, real), row in zip(place, values, strict=True):
            yield path, start, real, row


def _dead(report: Report, channel: int | None) -> list[Remark]:
    """What is to be said of channels without sound."""

    def look(path: str) -> Remark | None:
        try:
            dead, count = dead_channels(path)
        except AudioError:
            return None  # it is among the problems, or goes there when it is read again
        if not dead or (channel is not None and channel not in dead):
            return None
        if channel is not None or len(dead) == count:
            which = "it" if channel is None else f"channel {channel}"
            return Remark(Path(path), f"{which} holds no sound: the same value throughout")
        some = ", ".join(map(str, dead))
        return Remark(
            Path(path),
            f"channel {some} of {count} holds no sound, so that the mean of all is weaker; choose "
            "one by --channel",
        )

    with ThreadPoolExecutor(4) as pool:
        return [remark for remark in pool.map(look, report.durations) if remark is not None]


def detect_table(model: Detector, paths: Sequence[str | Path], **options: Any) -> pl.DataFrame:
    """As `detect`, without files; see `Detector.detect`."""
    config = build(DetectConfig, options, "detect")
    with tempfile.TemporaryDirectory(prefix="sonoformer-") as work, torch.inference_mode():
        found = detect(model, find(paths), config, Path(work))
        for path, text in [*found.report.problems, *found.report.remarks]:
            warnings.warn(f"{path}: {text}", stacklevel=3)
        if not found.report.parts:
            raise UserError(f"{', '.join(map(str, paths))}: no recording could be read")
        return found.events
