"""The packed cache: recordings decoded and resampled once, as 16-bit integers in a few large files.

An epoch then reads no compressed file: a crop is a slice of a memory map. The cache depends on the
sample rate alone, so front ends can be changed without packing again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sonoformer.audio import Channel, read
from sonoformer.data.sources import Stretch
from sonoformer.errors import AudioError, UserError
from sonoformer.files import atomic, read_json, write_json

VERSION = 1
_PART_BYTES = 1 << 30
_FLUSH_EVERY = 500  # items between two writings of the index
_SCHEMA = {
    "path": pl.String,
    "start": pl.Float64,
    "end": pl.Float64,
    "channel": pl.String,
    "size": pl.Int64,
    "changed": pl.Int64,
    "part": pl.Int32,
    "offset": pl.Int64,
    "samples": pl.Int64,
    "problem": pl.String,
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Packed:
    """What `pack` did.

    Attributes:
        cache: the items that were asked for, in order, without those that cannot be read.
        rows: for each item of `cache`, its place in the list that was asked for.
        added: items decoded now.
        problems: (path, reason) of the others.
    """

    cache: PackedCache
    rows: list[int]
    added: int
    problems: list[tuple[str, str]]


class PackedCache:
    """Items of a cache folder, as a `ClipSource`.

    Args:
        folder: the cache.
        items: rows of the index to show, in this order; all readable ones by default.

    Raises:
        UserError: the folder is no cache, or one of another version.
    """

    def __init__(self, folder: str | Path, items: Sequence[int] | None = None) -> None:
        self.folder = Path(folder)
        self.sample_rate = int(_settings(self.folder)["sample_rate"])
        index = pl.read_parquet(self.folder / "index.parquet")
        index = index.filter(pl.col("problem").is_null()) if items is None else index[list(items)]
        self._paths = index["path"].to_list()
        self._parts = index["part"].to_numpy()
        self._offsets = index["offset"].to_numpy()
        self.lengths: np.ndarray = index["samples"].to_numpy()
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # each process opens its own maps

    def name(self, index: int) -> str:
        """The item's recording."""
        return str(self._paths[index])

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`: int16, a view of the memory map."""
        part = int(self._parts[index])
        if part not in self._maps:
            self._maps[part] = np.memmap(_part_path(self.folder, part), np.int16, "r")
        begin = int(self._offsets[index]) + start
        stop = min(begin + count, int(self._offsets[index] + self.lengths[index]))
        return self._maps[part][begin:stop]


def pack(
    stretches: Sequence[Stretch],
    folder: str | Path,
    sample_rate: int,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> Packed:
    """Decode stretches into a cache; what it holds already and has not changed is not redone.

    The index is written atomically now and then: after a crash the next call goes on from there.

    Args:
        stretches: what to decode.
        folder: the cache, made if absent.
        sample_rate: Hz of the cache.
        workers: threads that decode (soundfile and soxr release the interpreter lock).
        progress: called with (items done, items in all).

    Raises:
        UserError: the cache has another sample rate, or the disk is full (what was packed stays).
    """
    folder = Path(folder)
    _prepare(folder, sample_rate)
    index = _Index(folder)
    keys = [_key(stretch) for stretch in stretches]
    todo = list(dict.fromkeys(k for k in keys if k not in index.places))
    done = len(keys) - len(todo)
    try:
        with ThreadPoolExecutor(workers) as threads:
            for number, (item, sound) in enumerate(_decoded(threads, todo, sample_rate), 1):
                index.add(item, sound)
                if progress and (number % 16 == 0 or number == len(todo)):
                    progress(done + number, len(keys))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot go on packing ({error.strerror}); free some space and run again, "
            "what is packed stays"
        ) from error
    finally:
        index.flush()
    rows, items, problems = [], [], []
    for row, place in enumerate(index.places[k] for k in keys):
        if (reason := index.rows[place]["problem"]) is None:
            rows.append(row)
            items.append(place)
        else:
            problems.append((stretches[row].path, str(reason)))
    return Packed(PackedCache(folder, items), rows, len(todo), problems)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as 16-bit integers; louder ones saturate."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


_Key = tuple[str, float, float, str, int, int]


class _Index:
    """The table of a cache that is being written, and the part file at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "index.parquet"
        self.rows = pl.read_parquet(path).to_dicts() if path.exists() else []
        self.places: dict[_Key, int] = {
            tuple(row[name] for name in list(_SCHEMA)[:6]): place
            for place, row in enumerate(self.rows)
        }
        good = [row for row in self.rows if row["problem"] is None]
        self._part = max((row["part"] for row in good), default=0)
        ends = [row["offset"] + row["samples"] for row in good if row["part"] == self._part]
        self._end = max(ends, default=0)
        self._file: Any = None
        self._unsaved = 0

    def add(self, item: _Key, sound: np.ndarray | AudioError) -> None:
        row: dict[str, Any] = dict(zip(list(_SCHEMA)[:6], item, strict=True))
        row |= {"part": 0, "offset": 0, "samples": 0, "problem": None}
        if isinstance(sound, AudioError):
            row["problem"] = sound.reason
        else:
            self._append(sound)
            row |= {"part": self._part, "offset": self._end, "samples": len(sound)}
            self._end += len(sound)
        self.places[item] = len(self.rows)
        self.rows.append(row)
        self._unsaved += 1
        if self._unsaved >= _FLUSH_EVERY:
            self.flush()

    def _append(self, sound: np.ndarray) -> None:
        if self._end and (self._end + len(sound)) * 2 > _PART_BYTES:
            self.flush()
            self._close()
            self._part, self._end = self._part + 1, 0
        if self._file is None:
            path = _part_path(self.folder, self._part)
            path.touch()
            self._file = path.open("r+b")
            # What an interrupted run wrote after its last index is written over.
            self._file.truncate(self._end * 2)
            self._file.seek(self._end * 2)
        self._file.write(sound.tobytes())

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._unsaved or not (self.folder / "index.parquet").exists():
            with atomic(self.folder / "index.parquet") as temporary:
                pl.DataFrame(self.rows, schema=_SCHEMA).write_parquet(temporary)
            self._unsaved = 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _decoded(
    threads: ThreadPoolExecutor, items: Sequence[_Key], sample_rate: int
) -> Iterator[tuple[_Key, np.ndarray | AudioError]]:
    """Items in order, a few decoded ahead, so that memory stays small."""

    def decode(item: _Key) -> np.ndarray | AudioError:
        path, start, end, channel, size, _ = item
        if size < 0:
            return AudioError(path, "no such file")
        try:
            which: Channel = "mix" if channel == "mix" else int(channel)
            stop = None if end == float("inf") else end
            return to_int16(read(path, sample_rate, start=start, end=stop, channel=which))
        except AudioError as error:
            return error

    ahead = 8 * threads._max_workers
    waiting: list[tuple[_Key, Future[np.ndarray | AudioError]]] = []
    for item in items:
        waiting.append((item, threads.submit(decode, item)))
        if len(waiting) >= ahead:
            first, future = waiting.pop(0)
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _key(stretch: Stretch) -> _Key:
    """An item's identity: a file that was replaced is packed anew."""
    try:
        status = Path(stretch.path).stat()
        size, changed = status.st_size, status.st_mtime_ns
    except OSError:
        size, changed = -1, 0
    return (stretch.path, stretch.start, stretch.end, str(stretch.channel), size, changed)


def _prepare(folder: Path, sample_rate: int) -> None:
    stamp = folder / "cache.json"
    if not stamp.exists():
        write_json(stamp, {"version": VERSION, "sample_rate": sample_rate})
        return
    rate = _settings(folder)["sample_rate"]
    if rate != sample_rate:
        raise UserError(
            f"{folder}: holds sound at {rate} Hz, not {sample_rate} Hz; choose another folder"
        )


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / "cache.json").exists():
        raise UserError(f"{folder}: is not a packed cache (no cache.json)")
    settings = read_json(folder / "cache.json")
    if not isinstance(settings, dict) or settings.get("version") != VERSION:
        raise UserError(
            f"{folder}: a cache of another version; pack it again: {json.dumps(settings)}"
        )
    return settings


def _part_path(folder: Path, part: int) -> Path:
    return folder / f"audio-{part:05d}.i16"
