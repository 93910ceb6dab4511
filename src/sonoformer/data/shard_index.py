"""What a folder of shards holds: its index, and what of a list of recordings it does not.

```
shards/
  shard-00000.tar ...  members KEY.flac and KEY.json in turn, as webdataset reads them
  index.parquet        a row a piece: where it comes from, where its FLAC lies in which tar
  shards.json          version, sample rate in Hz, seconds of the longest piece
  problems.csv         what was left out, and why
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from sonoformer.audio import Channel
from sonoformer.errors import UserError
from sonoformer.files import atomic, read_json, write_json

VERSION = 1
PIECE = ("path", "start", "end", "channel", "piece", "pieces")
SCHEMA: dict[str, Any] = {
    "path": pl.String,  # the recording
    "start": pl.Float64,  # seconds, of the stretch that was asked for
    "end": pl.Float64,
    "channel": pl.String,
    "piece": pl.Int32,  # which piece of the stretch, from 0
    "pieces": pl.Int32,
    "begin": pl.Int64,  # sample of the stretch at which the piece begins
    "size": pl.Int64,  # bytes of the recording's file, as are the next two when it was packed
    "modified": pl.Int64,  # nanoseconds
    "fingerprint": pl.String,
    "key": pl.String,  # of the members, without suffix
    "shard": pl.Int32,
    "offset": pl.Int64,  # bytes from the tar's beginning to the FLAC
    "bytes": pl.Int64,  # of the FLAC
    "crc": pl.UInt32,  # CRC-32 of the FLAC
    "samples": pl.Int64,
    "seconds": pl.Float64,
    "group": pl.String,
    "weight": pl.Float64,  # the recording's chance, divided among its pieces
    "labels": pl.List(pl.String),
    "problem": pl.String,  # why it was left out
}


class Recording(NamedTuple):
    """A stretch of a file that is to be packed.

    Attributes:
        path: the file.
        start: seconds.
        end: seconds; not past the file's end.
        channel: which channel, or `mix`.
        group: of recordings that belong together.
        weight: chance to be drawn.
        labels: if there are any.
    """

    path: str
    start: float
    end: float
    channel: Channel = "mix"
    group: str | None = None
    weight: float | None = None
    labels: tuple[str, ...] | None = None


def shard_path(folder: Path, shard: int) -> Path:
    """The tar number `shard`."""
    return folder / f"shard-{shard:05d}.tar"


def is_shards(folder: str | Path) -> bool:
    """Whether a folder holds shards."""
    return (Path(folder) / "shards.json").is_file()


def read_settings(folder: Path) -> dict[str, Any]:
    """`shards.json`.

    Raises:
        UserError: the folder holds no shards, or those of another version.
    """
    if not is_shards(folder):
        raise UserError(f"{folder}: holds no shards (no shards.json)")
    settings = read_json(folder / "shards.json")
    if not isinstance(settings, dict) or settings.get("version") != VERSION:
        raise _other_version(folder)
    return settings


def prepare(folder: Path, sample_rate: int, longest: float) -> None:
    """Make the folder one of shards, if it is none.

    Raises:
        UserError: its sound has another rate or other pieces, or it cannot be written.
    """
    now = {"version": VERSION, "sample_rate": sample_rate, "piece_seconds": longest}
    if not is_shards(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty and holds no shards; choose another --out")
        write_json(folder / "shards.json", now)
    before = read_settings(folder)
    for name in ("sample_rate", "piece_seconds"):
        if before.get(name) != now[name]:
            raise UserError(
                f"{name}: {folder} was packed with {before.get(name)}, not {now[name]}; give the "
                "same, or choose another --out"
            )


def read_index(folder: Path) -> pl.DataFrame:
    """The index; without rows where nothing was packed yet.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / "index.parquet"
    if not path.exists():
        return pl.DataFrame(schema=SCHEMA)
    try:
        # Not by a memory map, because the file is replaced while it is in use.
        index = pl.read_parquet(path, memory_map=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); delete the folder, pack again"
        ) from error
    if dict(index.schema) != SCHEMA:
        raise _other_version(folder)
    return index


def write_index(folder: Path, index: pl.DataFrame) -> None:
    """Replace the index, and the list of problems, each all at once."""
    with atomic(folder / "index.parquet") as temporary:
        index.write_parquet(temporary)
    bad = index.filter(pl.col("problem").is_not_null()).unique("path", maintain_order=True)
    with atomic(folder / "problems.csv") as temporary:
        bad.select("path", reason="problem").write_csv(temporary)


def present(folder: Path, index: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
    """The packed rows that lie in their tars, and (path, reason) of each tar that lacks some."""
    sizes, problems = dict[int, int](), []
    for shard in index["shard"].unique().sort().to_list():
        path = shard_path(folder, shard)
        sizes[shard] = path.stat().st_size if path.is_file() else -1
    table = pl.DataFrame(
        {"shard": list(sizes), "_size": list(sizes.values())},
        schema={"shard": pl.Int32, "_size": pl.Int64},
    )
    index = index.join(table, on="shard", how="left", maintain_order="left")
    there = pl.col("offset") + pl.col("bytes") <= pl.col("_size")
    lost = index.filter(~there)["shard"].value_counts().sort("shard").rows()
    for shard, count in lost:
        what = "is missing" if sizes[shard] < 0 else "is cut short"
        total = int((index["shard"] == shard).sum())
        reason = f"{what}: {count} of its {total} clips are lost; pack again to replace them"
        problems.append((str(shard_path(folder, shard)), reason))
    return index.filter(there).drop("_size"), problems


def pieces_of(recordings: Sequence[Recording], sample_rate: int, longest: float) -> pl.DataFrame:
    """A row for each piece: stretches longer than `longest` seconds come in equal pieces."""
    rows: dict[str, list[Any]] = {name: [] for name in (*PIECE, "begin", "samples")}
    facts: dict[str, list[Any]] = {"group": [], "weight": [], "labels": []}
    most = max(1, round(longest * sample_rate))
    for r in recordings:
        samples = max(1, round(r.end * sample_rate) - round(r.start * sample_rate))
        count = -(-samples // most)
        ends = samples * np.arange(count + 1) // count
        same = (r.path, float(r.start), float(r.end), str(r.channel))
        weight = None if r.weight is None else r.weight / count
        labels = None if r.labels is None else list(r.labels)
        for number in range(count):
            begin, end = int(ends[number]), int(ends[number + 1])
            for name, value in zip(rows, (*same, number, count, begin, end - begin), strict=True):
                rows[name].append(value)
            for name, value in zip(facts, (r.group, weight, labels), strict=True):
                facts[name].append(value)
    schema = {name: SCHEMA[name] for name in (*rows, *facts)}
    return pl.DataFrame({**rows, **facts}, schema=schema).unique(PIECE, maintain_order=True)


def _other_version(folder: Path) -> UserError:
    return UserError(
        f"{folder}: shards that another version made; delete them or choose another folder, "
        "and pack again"
    )
