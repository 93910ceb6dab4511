"""Sound that was packed before: caches and shards as pools, without opening any recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from sonoformer.data.cache import PackedCache
from sonoformer.data.cache_index import read_index as read_cache_index
from sonoformer.data.fingerprint import fingerprints
from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import Pool
from sonoformer.data.shard_index import is_shards
from sonoformer.data.shards import ShardSource
from sonoformer.data.sources import ClipSource
from sonoformer.data.views import Subset
from sonoformer.errors import AudioError, UserError

_ITEM = "_item"


def is_stored(path: str | Path) -> bool:
    """Whether a folder is a packed cache or holds shards."""
    return is_shards(path) or (Path(path) / "cache.json").is_file()


def open_stored(
    folders: Sequence[str | Path],
    sample_rate: int,
    *,
    exclude: Iterable[Manifest] = (),
    min_seconds: float = 0.0,
) -> tuple[Pool, Joined]:
    """The sound in folders of `pack` and `pack_shards`, and what is known of it.

    Args:
        folders: caches and shards, in any mixture.
        sample_rate: Hz at which the sound is wanted.
        exclude: manifests whose recordings are left out, as `gather`.
        min_seconds: leave out shorter items.

    Returns:
        The pool, with a row an item, and the items.

    Raises:
        UserError: a folder has another rate or cannot be read; nothing is left.
    """
    names = ", ".join(map(str, folders))
    sources, tables, problems = [], [], list[tuple[str, str]]()
    for folder in folders:
        source: ShardSource | PackedCache
        if is_shards(folder):
            source = ShardSource(folder)
            table = _of_shards(source)
            problems += source.problems
        else:
            source = PackedCache(folder)
            table = _of_cache(source)
        if source.sample_rate != sample_rate:
            raise UserError(
                f"{folder}: holds sound at {source.sample_rate} Hz, and {sample_rate} Hz are "
                "wanted; pack it again with that --sample-rate"
            )
        sources.append(source)
        tables.append(table)
    table = pl.concat(tables, how="diagonal_relaxed").with_row_index(_ITEM)
    table = table.unique(
        ["path", "start", "duration", "channel"], keep="first", maintain_order=True
    )
    count = table.height
    table = _without(table, list(exclude))
    held_out = count - table.height
    table = table.filter((pl.col("duration") >= min_seconds) & (pl.col("duration") > 0))
    if table.is_empty():
        raise UserError(f"{names}: no usable recording is left")
    kept = table[_ITEM].to_numpy().astype(np.int64)
    bad = tuple(AudioError(path, reason) for path, reason in problems)
    manifest = Manifest.of(table.drop(_ITEM, "fingerprint"), names)
    return Pool(manifest, bad, held_out, 0), Joined(sources, kept)


class Joined:
    """Items of several sources of one sample rate, one source after the other.

    Args:
        sources: the sources.
        rows: numbers of those to show, counted through all sources.

    Attributes:
        shards: `(items,)` which file of all holds each item, where every source knows; else None.
    """

    def __init__(self, sources: Sequence[ClipSource], rows: np.ndarray) -> None:
        self.sample_rate = sources[0].sample_rate
        ends = np.cumsum([0, *(len(source) for source in sources)])
        self._parts = [
            Subset(source, rows[(rows >= begin) & (rows < end)] - begin)
            for source, (begin, end) in zip(sources, pairwise(ends), strict=True)
        ]
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.lengths: np.ndarray = np.concatenate([part.lengths for part in self._parts])
        self.shards = self._shards()

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        """The item's recording."""
        part, row = self._place(index)
        return part.name(row)

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`."""
        part, row = self._place(index)
        return part.read(row, start, count)

    def _place(self, index: int) -> tuple[Subset, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        return self._parts[number], index - before

    def _shards(self) -> np.ndarray | None:
        found, first = [], 0
        for part in self._parts:
            if not isinstance(part.source, ShardSource):
                return None
            own = part.source.shards[part.rows].astype(np.int64)
            found.append(own + first)
            first += int(part.source.shards.max(initial=-1)) + 1
        return np.concatenate(found)


def _of_shards(source: ShardSource) -> pl.DataFrame:
    rate = source.sample_rate
    begin = pl.col("start") + pl.col("begin") / rate
    return source.table.select(
        "path",
        begin.alias("start"),
        (begin + pl.col("seconds")).alias("end"),
        pl.col("channel").replace("mix", None).cast(pl.Int32).alias("channel"),
        "group",
        "weight",
        "labels",
        "fingerprint",
        duration="seconds",
    )


def _of_cache(source: PackedCache) -> pl.DataFrame:
    """What the cache's index says, and what its list of stretches says of groups and weights."""
    index = read_cache_index(source.folder).filter(pl.col("problem").is_null())
    seconds = pl.col("samples") / source.sample_rate
    table = index.select(
        "path",
        "start",
        (pl.col("start") + seconds).alias("end"),
        pl.col("channel").replace("mix", None).cast(pl.Int32).alias("channel"),
        "fingerprint",
        seconds.alias("duration"),
    )
    listed = source.folder / "selection.parquet"
    if not listed.exists():
        return table
    facts = Manifest.read(listed, allow_absolute=True).table
    facts = facts.select("path", "start", "group", "weight", "labels")
    facts = facts.unique(["path", "start"], keep="first", maintain_order=True)
    return table.join(facts, on=["path", "start"], how="left", maintain_order="left")


def _without(table: pl.DataFrame, exclude: list[Manifest]) -> pl.DataFrame:
    """The rows whose file, content and group no excluded manifest has."""
    if not exclude:
        return table
    paths = {str(path) for manifest in exclude for path in manifest.files}
    groups = {group for manifest in exclude for group in manifest.values("group")}
    prints = set(fingerprints(paths).values()) - {None}
    resolved = {str(Path(path).resolve()) for path in paths}
    own = table["path"].unique().to_list()
    banned = [name for name in own if str(Path(name).resolve()) in resolved]
    kept = ~pl.col("path").is_in(banned)
    kept &= ~pl.col("fingerprint").is_in(list(prints)).fill_null(False)
    if groups and "group" in table.columns:
        kept &= ~pl.col("group").is_in(list(groups)).fill_null(False)
    return table.filter(kept)
