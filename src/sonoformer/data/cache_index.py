"""What a packed cache holds, and what of a list of stretches it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from sonoformer.data.fingerprint import fingerprints
from sonoformer.data.sources import Stretch
from sonoformer.errors import UserError
from sonoformer.files import atomic, read_json, write_json

VERSION = 1
IDENTITY = ("path", "start", "end", "channel")
SCHEMA = {
    "path": pl.String,
    "start": pl.Float64,  # seconds
    "end": pl.Float64,  # seconds; infinity is the end of the file
    "channel": pl.String,
    "size": pl.Int64,  # bytes of the file, as are the next two when it was packed
    "modified": pl.Int64,  # nanoseconds
    "fingerprint": pl.String,
    "source_rate": pl.Int32,  # Hz of the file
    "part": pl.Int32,
    "offset": pl.Int64,  # samples from the part's beginning
    "samples": pl.Int64,
    "problem": pl.String,  # why it could not be read
}
Progress = Callable[[int, int], None]
"""Called with (done, total) now and then; it should return quickly."""


def part_path(folder: Path, part: int) -> Path:
    """The file of samples number `part`."""
    return folder / f"audio-{part:05d}.i16"


def read_settings(folder: Path) -> dict[str, Any]:
    """`cache.json`.

    Raises:
        UserError: the folder is no cache, or one of another version.
    """
    if not (folder / "cache.json").exists():
        raise UserError(f"{folder}: is not a packed cache (no cache.json)")
    settings = read_json(folder / "cache.json")
    if not isinstance(settings, dict) or settings.get("version") != VERSION:
        raise _other_version(folder)
    return settings


def prepare(folder: Path, sample_rate: int) -> None:
    """Make the folder a cache, if it is none.

    Raises:
        UserError: it is one of another sample rate, or cannot be written.
    """
    if not (folder / "cache.json").exists():
        write_json(folder / "cache.json", {"version": VERSION, "sample_rate": sample_rate})
    rate = read_settings(folder)["sample_rate"]
    if rate != sample_rate:
        raise UserError(
            f"{folder}: holds sound at {rate} Hz, not {sample_rate} Hz; choose another folder"
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
    """Replace the index, all at once."""
    with atomic(folder / "index.parquet") as temporary:
        index.write_parquet(temporary)


def wanted_rows(stretches: Sequence[Stretch]) -> pl.DataFrame:
    """Each different stretch once, with `rows`, its places in the list."""
    columns = list(zip(*(Stretch(*s) for s in stretches), strict=True)) or [()] * 4
    table = pl.DataFrame(
        [
            pl.Series("path", columns[0], pl.String),
            pl.Series("start", columns[1], pl.Float64, strict=False),
            pl.Series("end", columns[2], pl.Float64, strict=False),
            pl.Series("channel", [str(c) for c in columns[3]], pl.String),
        ]
    ).with_row_index("rows")
    return table.group_by(*IDENTITY, maintain_order=True).agg("rows")


def missing(wanted: pl.DataFrame, index: pl.DataFrame) -> pl.DataFrame:
    """The identities in `wanted` that are not in the index, or of files that changed since."""
    files = _files_now(wanted["path"].unique(maintain_order=True).to_list())
    table = wanted.join(index, on=IDENTITY, how="left", maintain_order="left")
    table = table.join(files, on="path", how="left", maintain_order="left")
    packed = pl.col("part").is_not_null() & pl.col("problem").is_null()
    alike = packed & (pl.col("size") == pl.col("size_now"))
    dated = pl.col("modified") == pl.col("modified_now")
    touched = table.filter(alike & ~dated)["path"].unique().to_list()
    prints = fingerprints(touched)
    now = pl.DataFrame(
        {"path": list(prints), "print_now": list(prints.values())},
        schema={"path": pl.String, "print_now": pl.String},
    )
    table = table.join(now, on="path", how="left", maintain_order="left")
    same = alike & (dated | (pl.col("fingerprint") == pl.col("print_now")).fill_null(False))
    # A file that is away (an unplugged disk) is no reason to forget what was packed of it.
    present = (packed & pl.col("size_now").is_null()) | same.fill_null(False)
    return table.filter(~present).select(IDENTITY)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process writes to the cache, and keep others waiting meanwhile."""
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks of this kind
        yield
        return
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        with suppress(OSError):  # a network file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_state(path: str) -> tuple[int | None, int | None]:
    """Size in bytes and time of modification in nanoseconds; None where it cannot be reached."""
    try:
        status = os.stat(path)  # noqa: PTH116 (a Path for each of millions is slow)
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def _files_now(paths: list[str]) -> pl.DataFrame:
    states = [file_state(path) for path in paths]
    return pl.DataFrame(
        {
            "path": paths,
            "size_now": [size for size, _ in states],
            "modified_now": [modified for _, modified in states],
        },
        schema={"path": pl.String, "size_now": pl.Int64, "modified_now": pl.Int64},
    )


def _other_version(folder: Path) -> UserError:
    return UserError(
        f"{folder}: a cache that another version made; delete it or choose another folder, "
        "and pack again"
    )
