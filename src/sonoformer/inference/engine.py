"""Recordings of any length through a model, in constant memory, resumable after any interruption.

Every recording is cut into windows, windows are gathered into blocks, and each finished block is
one small Parquet file. A run that was interrupted finds its blocks and goes on after them; the
final table is streamed together from the blocks, so memory never grows with the recording.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sonoformer.audio import AudioInfo, Channel, Window, clock, probe, stream
from sonoformer.errors import AudioError, UserError
from sonoformer.files import atomic, read_json, write_json

Compute = Callable[[Tensor, Tensor], pl.DataFrame]
"""Waveforms `(batch, samples)` and lengths `(batch,)` -> a data frame with a row a window."""


@dataclass(frozen=True)
class Settings:
    """How recordings are cut."""

    window: float = 10.0
    """Seconds a window."""
    overlap: float = 0.0
    """Share of a window that the next one repeats, 0 to below 1."""
    batch_size: int = 8
    """Windows computed at once."""
    channel: int | None = None
    """Channel to read, counted from 0; all channels are averaged when absent."""
    shortest: float = 0.1
    """A last window with less real sound than this share of a window is dropped, unless it is the
    recording's only one."""

    def __post_init__(self) -> None:
        if self.window <= 0:
            raise UserError(f"window: must be above 0 seconds; got {self.window}")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap: must be at least 0 and below 1; got {self.overlap}")
        if self.batch_size < 1:
            raise UserError(f"batch_size: must be at least 1; got {self.batch_size}")
        if not 0 <= self.shortest <= 1:
            raise UserError(f"shortest: must lie between 0 and 1; got {self.shortest}")

    @property
    def hop(self) -> float:
        """Seconds from one window's start to the next one's."""
        return self.window * (1 - self.overlap)

    @property
    def mix(self) -> Channel:
        """The channel as `audio` wants it."""
        return "mix" if self.channel is None else self.channel


class Block(NamedTuple):
    """A stretch of one recording's windows: the unit of work, of writing and of resuming."""

    info: AudioInfo
    first: int
    stop: int
    part: Path


class Problem(NamedTuple):
    """A recording that was skipped, and why."""

    path: Path
    reason: str


@dataclass
class Report:
    """What a run over recordings did.

    Attributes:
        parts: the block files, in order.
        windows: windows computed now.
        resumed: windows found from an earlier run.
        problems: skipped recordings.
    """

    parts: list[Path]
    windows: int
    resumed: int
    problems: list[Problem]

    def table(self) -> pl.LazyFrame | None:
        """All rows as a lazy frame, or None when there is no row."""
        return pl.scan_parquet(self.parts) if self.parts else None


WINDOWS_PER_BLOCK = 256


def compute_table(
    paths: Sequence[Path],
    compute: Compute,
    sample_rate: int,
    settings: Settings,
    work: Path,
    *,
    identity: str,
    progress: Callable[[float, float], None] | None = None,
) -> Report:
    """Run `compute` over all windows of all recordings; finished blocks are kept in `work`.

    Args:
        paths: recordings.
        compute: the model; columns it returns follow `path, start, end, clock`.
        sample_rate: rate the model hears at; recordings are resampled to it.
        settings: window, overlap, batch.
        work: folder of the blocks; left in place for `Report.table`.
        identity: what decides the result besides the settings (the model's fingerprint); a work
            folder of another model or other settings is cleared.
        progress: called with (seconds of sound done, seconds in all).

    A recording that cannot be read is skipped and listed; blocks before the fault are kept.
    """
    _claim(work, {"identity": identity, "sample_rate": sample_rate, **asdict(settings)})
    infos, problems = _probe_all(paths)
    blocks = [block for info in infos for block in _blocks(info, settings, work)]
    total = sum(info.duration for info in infos)
    report = Report([], 0, 0, problems)
    bad: set[Path] = set()
    done = 0.0
    for block, windows in _ahead(blocks, sample_rate, settings):
        seconds = min(block.stop * settings.hop, block.info.duration) - block.first * settings.hop
        if block.part.exists():
            report.parts.append(block.part)
            report.resumed += block.stop - block.first
        elif block.info.path not in bad:
            try:
                rows = _rows(block, windows(), compute, settings)
                with atomic(block.part) as temporary:
                    rows.write_parquet(temporary)
                report.parts.append(block.part)
                report.windows += rows.height
            except AudioError as error:
                bad.add(block.info.path)
                report.problems.append(Problem(block.info.path, error.reason))
        done += max(0.0, seconds)
        if progress:
            progress(done, total)
    return report


def window_count(duration: float, settings: Settings) -> int:
    """Number of windows of a recording of `duration` seconds; at least 1."""
    starts = max(1, math.ceil(duration / settings.hop - 1e-9))
    # Windows that start inside the one before and add less than `shortest` say nothing new.
    while (
        starts > 1 and duration - (starts - 1) * settings.hop < settings.shortest * settings.window
    ):
        starts -= 1
    while starts > 1 and duration <= (starts - 2) * settings.hop + settings.window:
        starts -= 1
    return starts


def _claim(work: Path, identity: dict[str, object]) -> None:
    stamp = work / "settings.json"
    wanted = json.loads(json.dumps(identity))
    if stamp.exists() and read_json(stamp) != wanted:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_json(stamp, wanted)


def _probe_all(paths: Sequence[Path]) -> tuple[list[AudioInfo], list[Problem]]:
    def one(path: Path) -> AudioInfo | Problem:
        try:
            return probe(path)
        except AudioError as error:
            return Problem(path, error.reason)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, paths))
    return (
        [item for item in found if isinstance(item, AudioInfo)],
        [item for item in found if isinstance(item, Problem)],
    )


def _blocks(info: AudioInfo, settings: Settings, work: Path) -> Iterator[Block]:
    # Size and time of change in the name: a recording that was replaced is computed anew.
    status = info.path.stat()
    text = f"{info.path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    name = hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
    count = window_count(info.duration, settings)
    for first in range(0, count, WINDOWS_PER_BLOCK):
        stop = min(count, first + WINDOWS_PER_BLOCK)
        yield Block(info, first, stop, work / f"{name}-{first:07d}.parquet")


def _ahead(
    blocks: Sequence[Block], sample_rate: int, settings: Settings
) -> Iterator[tuple[Block, Callable[[], Iterator[list[Window]]]]]:
    """Each block with its batches of windows; the next batch is decoded while one is computed."""
    with ThreadPoolExecutor(1) as pool:
        for block in blocks:

            def windows(block: Block = block) -> Iterator[list[Window]]:
                source = _batches(block, sample_rate, settings)
                pending = pool.submit(next, source, None)
                while (batch := pending.result()) is not None:
                    pending = pool.submit(next, source, None)
                    yield batch

            yield block, windows


def _batches(block: Block, sample_rate: int, settings: Settings) -> Iterator[list[Window]]:
    batch: list[Window] = []
    for window in stream(
        block.info.path,
        sample_rate,
        window=settings.window,
        hop=settings.hop,
        channel=settings.mix,
        first=block.first,
    ):
        if window.index >= block.stop:
            break
        batch.append(window)
        if len(batch) == settings.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows(
    block: Block, batches: Iterator[list[Window]], compute: Compute, settings: Settings
) -> pl.DataFrame:
    frames = []
    for batch in batches:
        wave = torch.from_numpy(np.stack([window.samples for window in batch]))
        lengths = torch.tensor([window.valid for window in batch])
        place = {
            "path": [str(block.info.path)] * len(batch),
            "start": [window.start for window in batch],
            "end": [min(window.end, block.info.duration) for window in batch],
            "clock": pl.Series(
                [clock(block.info.recorded_at, window.start) for window in batch],
                dtype=pl.Datetime("ms"),
            ),
        }
        frames.append(pl.DataFrame(place).hstack(compute(wave, lengths)))
    if not frames:
        raise AudioError(block.info.path, "ends before its header says; this stretch is missing")
    return pl.concat(frames)
