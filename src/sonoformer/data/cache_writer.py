"""Decoding into a packed cache: threads decode, each writes to a place that it reserved."""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sonoformer.audio import Channel, probe, read, stream
from sonoformer.data.cache_index import (
    IDENTITY,
    SCHEMA,
    Progress,
    file_state,
    part_path,
    write_index,
)
from sonoformer.data.fingerprint import fingerprint
from sonoformer.data.sources import FULL_SCALE
from sonoformer.errors import AudioError, UserError

PART_BYTES = 1 << 30
_SAVE_EVERY = 20.0  # seconds between two writings of the index
_LONG = 120.0  # seconds of a stretch from which on it is decoded in pieces
_PIECE = 60.0

_Item = tuple[str, float, float, str]
_Row = dict[str, Any]


def pack_missing(
    folder: Path,
    index: pl.DataFrame,
    todo: pl.DataFrame,
    sample_rate: int,
    total: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Decode the stretches `todo` and enter them into the index.

    Args:
        folder: the cache.
        index: what it holds.
        todo: path, start, end, channel.
        sample_rate: Hz.
        total: stretches that were asked for, with those that are there, for `progress`.
        workers: threads; one a core by default.
        progress: called with (done, total).

    Raises:
        UserError: the disk is full, or cannot be written.
    """
    entries, parts = _Entries(folder, index), Parts(folder, index)
    done = total - todo.height
    rows = _decoded(todo.iter_rows(), parts, sample_rate, workers or os.cpu_count() or 1)
    try:
        with closing(rows):
            for row in rows:
                entries.rows.append(row)
                done += 1
                if entries.age > _SAVE_EVERY:
                    parts.sync()
                    entries.save()
                if progress is not None and (done % 16 == 0 or done == total):
                    progress(done, total)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"cannot be written ({error.strerror})"
        advice = "free some space" if full else "make it writable"
        raise UserError(
            f"{folder}: {what}; {advice} and run again, what is packed stays"
        ) from error
    finally:
        # What was written of unfinished stretches goes first: it may make room for the index.
        parts.close(entries.rows)
        entries.save()


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as 16-bit integers; louder ones saturate."""
    scaled = np.rint(samples * np.float32(FULL_SCALE))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


class Parts:
    """The files of samples, to which several threads write at places of their own."""

    def __init__(self, folder: Path, index: pl.DataFrame) -> None:
        self.folder = folder
        good = index.filter(pl.col("problem").is_null())
        self._part = int(good["part"].max() or 0)  # type: ignore[arg-type]
        self._end = _end(good.select("part", "offset", "samples").rows(), self._part)
        self._kept = {self._part: self._end}
        self._lock = threading.Lock()
        self._files: dict[int, Any] = {}

    def reserve(self, samples: int) -> tuple[int, int]:
        """Part and offset at which so many samples may be written."""
        with self._lock:
            if self._end and (self._end + samples) * 2 > PART_BYTES:
                self._part, self._end = self._part + 1, 0
            if self._part not in self._files:
                path = part_path(self.folder, self._part)
                path.touch()
                file = path.open("r+b", buffering=0)
                # What an interrupted run wrote after its last index goes.
                file.truncate(self._end * 2)
                self._files[self._part] = file
            offset = self._end
            self._end += samples
            return self._part, offset

    def write(self, part: int, offset: int, samples: np.ndarray) -> None:
        """Put int16 samples at a place."""
        data = memoryview(samples.astype("<i2", copy=False).view(np.uint8).data)
        with self._lock:
            file = self._files[part]
            file.seek(offset * 2)
            while data:
                data = data[file.write(data) :]

    def sync(self) -> None:
        """Make sure that what was written is on the disk before the index says so."""
        with self._lock:
            for file in self._files.values():
                os.fsync(file.fileno())

    def close(self, rows: list[_Row]) -> None:
        """Cut off what is in none of `rows`, and close."""
        places = [(r["part"], r["offset"], r["samples"]) for r in rows if r["problem"] is None]
        for part, file in self._files.items():
            file.truncate(2 * max(self._kept.get(part, 0), _end(places, part)))
            os.fsync(file.fileno())
            file.close()


class _Entries:
    """The index as it grows."""

    def __init__(self, folder: Path, index: pl.DataFrame) -> None:
        self.folder, self.index = folder, index
        self.rows: list[_Row] = []
        self._saved, self._when = 0, time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the index was written."""
        return time.monotonic() - self._when

    def save(self) -> None:
        """Write the index, if it has grown."""
        if len(self.rows) > self._saved:
            fresh = pl.DataFrame(self.rows, schema=SCHEMA)
            old = self.index.join(fresh, on=IDENTITY, how="anti", maintain_order="left")
            write_index(self.folder, pl.concat([old, fresh]))
            self._saved = len(self.rows)
        self._when = time.monotonic()


def _decoded(
    items: Iterable[_Item], parts: Parts, sample_rate: int, workers: int
) -> Generator[_Row, None, None]:
    """Rows as they are finished; the next ones are begun as earlier ones are taken."""
    items = iter(items)
    threads = ThreadPoolExecutor(workers)
    running: set[Future[_Row]] = set()
    try:
        while True:
            for item in islice(items, 4 * workers - len(running)):
                running.add(threads.submit(_pack, item, parts, sample_rate))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            # Those that failed come last, so that the others are entered.
            for future in sorted(finished, key=lambda future: future.exception() is not None):
                yield future.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _pack(item: _Item, parts: Parts, sample_rate: int) -> _Row:
    """Decode a stretch and write its samples; a stretch that cannot be read gets a reason."""
    path, start, end, channel = item
    size, modified = file_state(path)
    row: _Row = {**dict.fromkeys(SCHEMA), **dict(zip(IDENTITY, item, strict=True))}
    row |= {"size": size, "modified": modified, "fingerprint": fingerprint(path)}
    row |= {"part": 0, "offset": 0, "samples": 0}
    which: Channel = "mix" if channel == "mix" else int(channel)
    try:
        info = probe(path)
        row["source_rate"] = info.sample_rate
        stop = min(end, info.duration)
        if stop - start <= _LONG:
            samples = to_int16(
                read(path, sample_rate, start=start, end=_finite(end), channel=which)
            )
            row["part"], row["offset"] = parts.reserve(len(samples))
            parts.write(row["part"], row["offset"], samples)
            row["samples"] = len(samples)
        else:
            most = math.ceil(stop * sample_rate) - round(start * sample_rate)
            row["part"], row["offset"] = parts.reserve(most)
            for piece in _pieces(path, start, most, which, sample_rate):
                parts.write(row["part"], row["offset"] + row["samples"], piece)
                row["samples"] += len(piece)
    except UserError as error:
        reason = error.reason if isinstance(error, AudioError) else str(error)
        row |= {"problem": reason, "samples": 0}
    return row


def _pieces(
    path: str, start: float, most: int, channel: Channel, sample_rate: int
) -> Iterator[np.ndarray]:
    """The samples of a stretch, at most `most`, a minute at a time."""
    first = round(start * sample_rate)
    windows = stream(
        path, sample_rate, window=_PIECE, hop=_PIECE, channel=channel, first=int(start // _PIECE)
    )
    for window in windows:
        begin = round(window.index * _PIECE * sample_rate)
        piece = window.samples[: window.valid][max(0, first - begin) : first + most - begin]
        if len(piece):
            yield to_int16(piece)
        if begin + window.valid >= first + most:
            return


def _finite(end: float) -> float | None:
    return None if math.isinf(end) else end


def _end(places: Iterable[tuple[int, int, int]], part: int) -> int:
    return max((offset + samples for at, offset, samples in places if at == part), default=0)
