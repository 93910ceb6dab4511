"""Recordings of any length through a model, in constant memory, resumable after any interruption.

Recordings are cut into windows and windows are gathered into blocks: a stretch of a long recording,
or many short ones. Each finished block is one small Parquet file and a note of what went wrong. A
run that was interrupted finds its blocks and goes on after them; the final table is streamed
together from the blocks, so memory never grows with the sound. Batches run on from recording to
recording, so that thousands of short files do not mean thousands of small batches.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sonoformer.audio import AudioInfo, Channel, Window, clock, probe
from sonoformer.errors import AudioError, UserError
from sonoformer.files import atomic, read_json, write_json, writing
from sonoformer.inference.listening import Heard, Listening, Problem, Remark, Span, Stamp
from sonoformer.nn.computing import side_by_side

_MOST = 256  # windows at once: of tiny ones each is filled up to a patch
_CUT_OFF = "is cut off: its header promises more sound than the file holds"
Compute = Callable[[Tensor, Tensor], pl.DataFrame]
"""Waveforms `(batch, samples)` and lengths `(batch,)` -> a data frame with a row a window."""


@dataclass(frozen=True)
class Settings:
    """How recordings are cut."""

    window: float = 10.0
    """Seconds a window."""
    overlap: float = 0.0
    """Share of a window that the next one repeats, 0 to below 1."""
    batch_size: int | None = None
    """Windows computed at once. By default 20 s of sound on a CPU, whose caches hold little more,
    and 160 s elsewhere."""
    channel: int | None = None
    """Channel to read, counted from 0; all channels are averaged when absent."""
    shortest: float = 0.1
    """A last window that adds less new sound than this share of a window is dropped, unless it is
    the recording's only one."""
    readers: int = 2
    """Recordings (or parts of a long one) that are decoded at the same time."""

    def __post_init__(self) -> None:
        if not 0 < self.window < float("inf"):
            raise UserError(f"window: must be above 0 seconds; got {self.window}")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap: must be at least 0 and below 1; got {self.overlap}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"batch_size: must be at least 1; got {self.batch_size}")
        if self.channel is not None and self.channel < 0:
            raise UserError(f"channel: is counted from 0; got {self.channel}")
        if not 0 <= self.shortest <= 1:
            raise UserError(f"shortest: must lie between 0 and 1; got {self.shortest}")
        if self.readers < 1:
            raise UserError(f"readers: must be at least 1; got {self.readers}")

    @property
    def hop(self) -> float:
        """Seconds from one window's start to the next one's."""
        return self.window * (1 - self.overlap)

    def batch(self, device: torch.device) -> int:
        """How many windows are computed at once."""
        if self.batch_size is not None:
            return self.batch_size
        seconds = 20 if device.type == "cpu" else 160
        return min(_MOST, max(1, round(seconds / self.window)))

    @property
    def mix(self) -> Channel:
        """The channel as `audio` wants it."""
        return "mix" if self.channel is None else self.channel


class Block(NamedTuple):
    """Spans that are written together: the unit of resuming."""

    spans: tuple[Span, ...]
    part: Path

    @property
    def notes(self) -> Path:
        """Written last: the number of its rows, and the recordings that failed in it."""
        return self.part.with_suffix(".json")


@dataclass
class Report:
    """What a run over recordings did.

    Attributes:
        parts: the block files, in order.
        durations: seconds of each readable recording, by path.
        windows: windows computed now.
        resumed: windows found from an earlier run.
        problems: skipped recordings.
        remarks: what else is odd: recordings that are cut off.
    """

    parts: list[Path]
    durations: dict[str, float]
    windows: int
    resumed: int
    problems: list[Problem]
    remarks: list[Remark] = field(default_factory=list)

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
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float, float], None] | None = None,
) -> Report:
    """Run `compute` over all windows of all recordings; finished blocks are kept in `work`.

    Args:
        paths: recordings.
        compute: the model, see `side_by_side`; columns it returns follow `path, start, end, clock`.
        sample_rate: rate the model hears at; recordings are resampled to it.
        settings: window, overlap, batch.
        work: folder of the blocks; left in place for `Report.table`. Blocks
            of other recordings, models or settings are removed from it.
        identity: what decides the result besides the settings (the model's fingerprint).
        device: where `compute` computes.
        progress: called with (seconds of sound done, seconds in all).

    A recording that cannot be read is skipped and listed; its windows before the fault are kept.

    Raises:
        UserError: windows too short for a sample, or the disk is full.
    """
    if settings.hop * sample_rate < 1:
        raise UserError(
            f"window {settings.window} s with overlap {settings.overlap}: less than one sample "
            f"at {sample_rate} Hz from window to window"
        )
    infos, problems = _probe_all(paths)
    cut = {k: v for k, v in asdict(settings).items() if k not in ("batch_size", "readers")}
    key = json.dumps([identity, sample_rate, cut])
    blocks = list(_blocks(infos, settings, work, key))
    _clear(work, blocks)
    durations = {str(info.path): info.duration for info in infos}
    cut_off = [Remark(info.path, _CUT_OFF) for info in infos if info.truncated]
    report = Report([], durations, 0, 0, problems, cut_off)
    total, done = sum(durations.values()), 0.0
    fresh, failed = [], set[Path]()
    for block in blocks:
        if block.notes.exists():
            notes = read_json(block.notes)
            report.resumed += notes["rows"]
            failed.update(Path(path) for path, _ in notes["problems"])
            done += _seconds(block, settings)
        else:
            fresh.append(block)
    for block, rows, bad, odd in _computed(fresh, compute, sample_rate, settings, failed, device):
        if rows is not None:
            with atomic(block.part) as temporary:
                rows.write_parquet(temporary)
            report.windows += rows.height
        said = {
            name: [[str(path), text] for path, text in noted]
            for name, noted in (("problems", bad), ("remarks", odd))
        }
        # Last, because a block with notes counts as done.
        write_json(block.notes, {"rows": 0 if rows is None else rows.height, **said})
        done += _seconds(block, settings)
        if progress:
            progress(done, total)
    for block in blocks:
        notes = read_json(block.notes)
        report.parts += [block.part] if notes["rows"] else []
        report.problems += [Problem(Path(path), reason) for path, reason in notes["problems"]]
        report.remarks += [Remark(Path(path), text) for path, text in notes.get("remarks", [])]
    return report


def window_count(duration: float, settings: Settings) -> int:
    """Number of windows of a recording of `duration` seconds; at least 1.

    A last window that adds less than `shortest` of a window to the one before is left out. `stream`
    may give one window less, where what is left is shorter than a sample.
    """
    count = max(1, math.ceil(duration / settings.hop - 1e-9))
    least = settings.shortest * settings.window
    while count > 1 and duration - ((count - 2) * settings.hop + settings.window) < least:
        count -= 1
    return count


_OURS = re.compile(r"\.?[0-9a-f]{24}.*\.(parquet|json)")


def _clear(work: Path, blocks: Sequence[Block]) -> None:
    """Remove what no block of this run is: blocks of other settings, half-written files."""
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        wanted = {block.part for block in blocks} | {block.notes for block in blocks}
        for path in set(work.iterdir()) - wanted:
            if _OURS.fullmatch(path.name):
                path.unlink()


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


def _blocks(
    infos: Sequence[AudioInfo], settings: Settings, work: Path, key: str
) -> Iterator[Block]:
    spans: list[Span] = []
    room = WINDOWS_PER_BLOCK
    for info in infos:
        stamp = Stamp.of(info.path)
        first, count = 0, window_count(info.duration, settings)
        while first < count:
            stop = min(count, first + room)
            spans.append(Span(info, first, stop, stamp))
            room -= stop - first
            first = stop
            if room == 0:
                yield Block(tuple(spans), work / _name(spans, key))
                spans, room = [], WINDOWS_PER_BLOCK
    if spans:
        yield Block(tuple(spans), work / _name(spans, key))


def _name(spans: Sequence[Span], key: str) -> str:
    """A file name by model and settings, and by each recording's place, size and last change."""
    text = hashlib.blake2b(key.encode(), digest_size=12)
    for info, first, stop, stamp in spans:
        place = f"{info.path}|{info.path.resolve()}"
        text.update(f"{place}|{stamp.size}|{stamp.changed}|{first}|{stop}\n".encode())
    return f"{text.hexdigest()}.parquet"


def _seconds(block: Block, settings: Settings) -> float:
    return sum(
        max(0.0, min(span.stop * settings.hop, span.info.duration) - span.first * settings.hop)
        for span in block.spans
    )


_Result = tuple[Block, pl.DataFrame | None, list[Problem], list[Remark]]


def _computed(
    blocks: Sequence[Block],
    compute: Compute,
    sample_rate: int,
    settings: Settings,
    failed: set[Path],
    device: torch.device,
) -> Iterator[_Result]:
    """Each block with its rows, in order; batches are gathered while those before are computed."""
    rows: list[pl.DataFrame] = []
    bad: list[Problem] = []
    odd: list[Remark] = []

    def computed(batch: list[_Event]) -> tuple[list[_Event], pl.DataFrame | None]:
        return batch, _table(batch, compute)

    source = _batches(blocks, sample_rate, settings, failed, settings.batch(device))
    with closing(source), closing(side_by_side(computed, source, device)) as tables:
        for batch, table in tables:
            used = 0
            for event in batch:
                if isinstance(event, Problem):
                    bad.append(event)
                elif isinstance(event, Remark):
                    odd.append(event)
                elif isinstance(event, Block):
                    yield event, pl.concat(rows) if rows else None, bad, odd
                    rows, bad, odd = [], [], []
                else:
                    assert table is not None
                    rows.append(table.slice(used, 1))
                    used += 1


_Event = Heard | Problem | Remark | Block
"""A window to compute; what is said of a recording; or the end of a block."""


def _batches(
    blocks: Sequence[Block], sample_rate: int, settings: Settings, failed: set[Path], size: int
) -> Generator[list[_Event], None, None]:
    batch: list[_Event] = []
    waiting = 0
    with closing(_events(blocks, sample_rate, settings, failed, size)) as events:
        for event in events:
            batch.append(event)
            waiting += isinstance(event, Heard)
            if waiting == size:
                yield batch
                batch, waiting = [], 0
    if batch:
        yield batch


def _events(
    blocks: Sequence[Block], sample_rate: int, settings: Settings, failed: set[Path], ahead: int
) -> Generator[_Event, None, None]:
    """Windows, faults and ends of blocks, in order; recordings in `failed` are passed over."""
    how = Listening(
        sample_rate,
        settings.window,
        settings.hop,
        settings.mix,
        settings.readers,
        ahead,
    )
    spans = [span for block in blocks for span in block.spans]
    with closing(how.spans(spans, failed)) as heard:
        for block in blocks:
            for _ in block.spans:
                yield from next(heard)
            yield block


def _table(batch: Sequence[_Event], compute: Compute) -> pl.DataFrame | None:
    heard = [event for event in batch if isinstance(event, Heard)]
    if not heard:
        return None
    wave = torch.from_numpy(np.stack([window.samples for _, window in heard]))
    lengths = torch.tensor([window.valid for _, window in heard])
    place = pl.DataFrame(
        {
            "path": [str(info.path) for info, _ in heard],
            "start": [window.start for _, window in heard],
            "end": [min(window.end, info.duration) for info, window in heard],
            "clock": pl.Series(
                [_wall_clock(info, window) for info, window in heard], dtype=pl.Datetime("ms")
            ),
        }
    )
    return place.hstack(compute(wave, lengths))


def _wall_clock(info: AudioInfo, window: Window) -> datetime | None:
    """When the window began, as a clock at the recorder showed it: zones would not fit a column."""
    time = clock(info.recorded_at, window.start)
    return None if time is None else time.replace(tzinfo=None)
