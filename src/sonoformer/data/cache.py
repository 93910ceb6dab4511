"""The packed cache: recordings decoded and resampled once, as 16-bit integers in a few large files.

An epoch then reads no compressed file: a crop is a slice of a memory map. The cache depends on the
sample rate alone, so front ends can be changed without packing again.

```
packed/
  audio-00000.i16 ...  samples, int16, one stretch after the other; 1 GiB at most, unless a single
                       stretch is longer
  index.parquet        a row a stretch: where it comes from, what the file was then, where it lies
  cache.json           version and sample rate
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sonoformer.data.cache_index import (
    IDENTITY,
    Progress,
    exclusive,
    missing,
    part_path,
    prepare,
    read_index,
    read_settings,
    wanted_rows,
)
from sonoformer.data.cache_writer import pack_missing
from sonoformer.data.sources import Stretch
from sonoformer.errors import UserError


@dataclass(frozen=True)
class Packed:
    """What `pack` did.

    Attributes:
        cache: the items that were asked for, in order, without those that cannot be read.
        rows: for each item of `cache`, its place in the list that was asked for.
        added: items decoded now.
        problems: (path, reason) of the others, each file once.
    """

    cache: PackedCache
    rows: list[int]
    added: int
    problems: list[tuple[str, str]]


class PackedCache:
    """Items of a cache folder, as a `ClipSource`.

    Memory maps are opened when they are first read, in each process for itself.

    Args:
        folder: the cache.
        items: rows of the index to show, in this order; all readable ones by default.

    Raises:
        UserError: the folder is no cache, one of another version, or damaged.
    """

    def __init__(self, folder: str | Path, items: Sequence[int] | None = None) -> None:
        self.folder = Path(folder)
        self.sample_rate = int(read_settings(self.folder)["sample_rate"])
        index = read_index(self.folder)
        good = index["problem"].is_null()
        index = index.filter(good) if items is None else index[list(items)]
        files = index.select("path").unique(maintain_order=True).with_row_index("file")
        # Names once a file, not once a stretch: there may be millions.
        self._names = files["path"].to_list()
        named = index.join(files, on="path", how="left", maintain_order="left")
        self._files = named["file"].to_numpy()
        self._parts = index["part"].to_numpy()
        self._offsets = index["offset"].to_numpy()
        self.lengths: np.ndarray = index["samples"].to_numpy()
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def name(self, index: int) -> str:
        """The item's recording."""
        return str(self._names[self._files[index]])

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`: int16, a view of the memory map."""
        begin = int(self._offsets[index])
        stop = begin + min(start + count, int(self.lengths[index]))
        return self._map(int(self._parts[index]))[begin + start : stop]

    def _map(self, part: int) -> np.ndarray:
        if part not in self._maps:
            path = part_path(self.folder, part)
            mine = self._parts == part
            needed = int((self._offsets[mine] + self.lengths[mine]).max())
            if not path.exists() or path.stat().st_size < 2 * needed:
                raise UserError(f"{path}: is missing or cut short; delete the folder, pack again")
            self._maps[part] = np.memmap(path, np.int16, "r").view(np.ndarray)
        return self._maps[part]


def pack(
    stretches: Sequence[Stretch],
    folder: str | Path,
    sample_rate: int,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Packed:
    """Decode stretches into a cache; what it holds already and has not changed is not redone.

    What is there counts as unchanged if the file is as large and as old as it was, or as large and
    alike at both ends, or cannot be reached now. Stretches that could not be read are tried again.
    Every 20 seconds, and however it ends, what has been done is entered into the index: the next
    call goes on from there. Where another process is packing into the folder, this one waits.

    Args:
        stretches: what to decode.
        folder: the cache, made if absent.
        sample_rate: Hz of the cache.
        workers: threads that decode, one a core by default (decoding and resampling release the
            interpreter lock).
        progress: called with (stretches done, stretches in all).

    Raises:
        UserError: the cache has another sample rate, or the disk is full (what was packed stays).
    """
    folder = Path(folder)
    prepare(folder, sample_rate)
    wanted = wanted_rows(stretches)
    todo = missing(wanted, read_index(folder))
    if not todo.is_empty():
        with exclusive(folder):
            index = read_index(folder)
            todo = missing(wanted, index)
            pack_missing(folder, index, todo, sample_rate, wanted.height, workers, progress)
    found = wanted.join(
        read_index(folder).with_row_index("item"), on=IDENTITY, how="left", maintain_order="left"
    ).explode("rows")
    found = found.sort("rows")
    good = found.filter(pl.col("problem").is_null())
    bad = found.filter(pl.col("problem").is_not_null())
    return Packed(
        cache=PackedCache(folder, good["item"].to_list()),
        rows=good["rows"].to_list(),
        added=todo.height - bad.select(IDENTITY).unique().height,
        problems=bad.unique("path", maintain_order=True).select("path", "problem").rows(),
    )
