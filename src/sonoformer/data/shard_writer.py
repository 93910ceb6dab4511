"""Recordings -> tars of FLAC for training: few large files, half as large as 16-bit samples.

Whatever happens, the index names only what is whole in a tar: a tar gets its name when it is
complete, and enters the index after that. So packing that was stopped goes on where it was.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from sonoformer.audio import Channel, read
from sonoformer.data.cache_index import Progress, exclusive, file_state
from sonoformer.data.cache_writer import to_int16
from sonoformer.data.fingerprint import fingerprint
from sonoformer.data.keys import numpy_generator
from sonoformer.data.shard_index import (
    PIECE,
    SCHEMA,
    Recording,
    pieces_of,
    prepare,
    present,
    read_index,
    shard_path,
    write_index,
)
from sonoformer.errors import AudioError, UserError
from sonoformer.files import atomic

_SILENT = "is silent"
_SHORT = "is shorter than"
_QUIET = 2  # steps of 16 bits from the lowest to the highest sample of what counts as silence

_Row = dict[str, Any]


@dataclass(frozen=True)
class Sharded:
    """What `pack_shards` did.

    Attributes:
        shards: tars in the folder.
        pieces: pieces of recordings in them.
        seconds: of sound in them.
        added: pieces packed now.
        problems: (path, reason) of what was left out, each file once.
    """

    shards: int
    pieces: int
    seconds: float
    added: int
    problems: list[tuple[str, str]]


def pack_shards(
    recordings: Sequence[Recording],
    folder: str | Path,
    sample_rate: int,
    *,
    megabytes: float = 100.0,
    longest: float = 30.0,
    shortest: float = 0.2,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Write recordings into shards; what they hold already is not packed again.

    Pieces come in a random order that depends on the list alone, so that a shard holds a bit of
    everything. Silent pieces, and those shorter than `shortest`, are left out and listed, as is
    what cannot be read. What a damaged or deleted tar no longer holds is packed anew. A recording
    that has changed since it was packed stays as it was, and is listed: pack it into another
    folder.

    Args:
        recordings: what to pack.
        folder: of the shards, made if absent.
        sample_rate: Hz of the shards, which are mono with 16 bits.
        megabytes: size at which a shard is closed.
        longest: seconds; a longer recording is stored in equal pieces, so that a training clip
            never needs more than one of them and little more than it uses is read.
        shortest: seconds.
        workers: threads that decode and encode, one a core by default.
        progress: called with (pieces done, pieces in all).

    Raises:
        UserError: the folder holds something else, or the disk is full (what was packed stays).
    """
    if not megabytes > 0 or not longest > 0:
        raise UserError(
            f"shard_megabytes and piece_seconds must be above 0; got {megabytes} and {longest}"
        )
    folder = Path(folder)
    prepare(folder, sample_rate, longest)
    wanted = pieces_of(recordings, sample_rate, longest)
    with exclusive(folder):
        for leftover in folder.glob(".shard-*.tar"):
            leftover.unlink()
        index = _without_retried(_without_lost(folder, read_index(folder)), wanted)
        changed = _changed(index)
        todo = wanted.join(index, on=PIECE, how="anti", maintain_order="left")
        turns = numpy_generator(0, "shards").permutation(todo.height)
        writer = _Writer(folder, index, megabytes * 1e6)
        rows = _encoded(todo[turns].to_dicts(), sample_rate, shortest, workers or os.cpu_count())
        done = wanted.height - todo.height
        try:
            for row, data in rows:
                writer.add(row, data, sample_rate)
                done += 1
                if progress is not None:
                    progress(done, wanted.height)
        except BaseException as error:
            writer.leave(error)
            raise
        writer.commit()
    good = writer.index.filter(pl.col("problem").is_null())
    bad = writer.index.filter(pl.col("problem").is_not_null()).unique("path", maintain_order=True)
    return Sharded(
        shards=good["shard"].n_unique(),
        pieces=good.height,
        seconds=float(good["seconds"].sum()),
        added=writer.added,
        problems=[*bad.select("path", "problem").rows(), *changed],
    )


class _Writer:
    """The shard that grows, and the index of those that are whole."""

    def __init__(self, folder: Path, index: pl.DataFrame, most: float) -> None:
        self.folder, self.index, self.most = folder, index, most
        self.added = 0
        good = index.filter(pl.col("problem").is_null())
        self._number = int(good["shard"].max()) + 1 if good.height else 0  # type: ignore[arg-type]
        self._key = good.height
        self._rows: list[_Row] = []
        self._open: tuple[ExitStack, tarfile.TarFile] | None = None

    def add(self, row: _Row, data: bytes | None, sample_rate: int) -> None:
        """Write a piece, or note why there is none."""
        if data is not None:
            row |= {"key": f"{self._key:09d}", "shard": self._number}
            self._key += 1
            tar = self._tar()
            row["offset"] = self._put(tar, f"{row['key']}.flac", data)
            named = ("path", "start", "end", "channel", "begin", "samples", "seconds")
            facts = {name: row[name] for name in (*named, "group", "weight", "labels")}
            text = json.dumps({**facts, "sample_rate": sample_rate}, ensure_ascii=False)
            self._put(tar, f"{row['key']}.json", text.encode())
            self.added += 1
        self._rows.append(row)
        if self._open is not None and self._open[1].offset >= self.most:
            self.commit()

    def commit(self) -> None:
        """Finish the shard, and enter it into the index."""
        if self._open is not None:
            stack, tar = self._open
            tar.close()
            stack.close()
            self._open = None
            self._number += 1
        if self._rows:
            self.index = pl.concat([self.index, pl.DataFrame(self._rows, schema=SCHEMA)])
            self._rows = []
        write_index(self.folder, self.index)

    def leave(self, error: BaseException) -> None:
        """Keep what can be kept; after a failure to write, nothing of the shard can."""
        if isinstance(error, OSError | UserError):
            if self._open is not None:
                self._open[0].__exit__(type(error), error, error.__traceback__)
        else:
            self.commit()

    def _tar(self) -> tarfile.TarFile:
        if self._open is None:
            stack = ExitStack()
            temporary = stack.enter_context(atomic(shard_path(self.folder, self._number)))
            tar = tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._open = stack, tar
        return self._open[1]

    @staticmethod
    def _put(tar: tarfile.TarFile, name: str, data: bytes) -> int:
        """Append a member; where its content begins."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        begin = tar.offset + tarfile.BLOCKSIZE
        tar.addfile(info, io.BytesIO(data))
        return begin


def _encoded(
    todo: list[_Row], sample_rate: int, shortest: float, workers: int | None
) -> Iterator[tuple[_Row, bytes | None]]:
    """Rows with their FLAC, in the order of `todo`; some are begun ahead in threads."""
    workers = workers or 1
    coming: deque[Future[tuple[_Row, bytes | None]]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            for item in todo:
                coming.append(threads.submit(_encode, item, sample_rate, shortest))
                if len(coming) >= 4 * workers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def _encode(item: _Row, sample_rate: int, shortest: float) -> tuple[_Row, bytes | None]:
    path, channel = item["path"], item["channel"]
    size, modified = file_state(path)
    row: _Row = {**dict.fromkeys(SCHEMA), **item}
    row |= {"size": size, "modified": modified, "fingerprint": fingerprint(path)}
    which: Channel = "mix" if channel == "mix" else int(channel)
    begin = round(item["start"] * sample_rate) + item["begin"]
    times = {"start": begin / sample_rate, "end": (begin + item["samples"]) / sample_rate}
    try:
        samples = to_int16(read(path, sample_rate, channel=which, **times))
    except AudioError as error:
        return row | {"problem": error.reason}, None
    except UserError as error:
        return row | {"problem": str(error)}, None
    where = "" if item["pieces"] == 1 else f" from {times['start']:.1f} to {times['end']:.1f} s"
    if len(samples) < shortest * sample_rate:
        return row | {"problem": f"{_SHORT} {shortest:g} s{where}"}, None
    if np.ptp(samples.astype(np.int32)) <= _QUIET:
        return row | {"problem": f"{_SILENT}{where}"}, None
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    data = file.getvalue()
    row |= {"samples": len(samples), "seconds": len(samples) / sample_rate}
    return row | {"bytes": len(data), "crc": zlib.crc32(data)}, data


def _without_lost(folder: Path, index: pl.DataFrame) -> pl.DataFrame:
    """The index without what is no longer in the tars: it is packed again."""
    whole, _ = present(folder, index.filter(pl.col("problem").is_null()))
    return pl.concat([whole, index.filter(pl.col("problem").is_not_null())])


def _without_retried(index: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The index without rows of `wanted` that could not be read before, or were left out of a file
    that has changed: they are tried again."""
    bad = index.filter(pl.col("problem").is_not_null()).join(wanted, on=PIECE, how="semi")
    before = bad.select("path", "size", "modified").iter_rows()
    same = pl.Series([file_state(path) == tuple(old) for path, *old in before], dtype=pl.Boolean)
    final = bad["problem"].str.contains(f"^({_SILENT}|{_SHORT})") & same
    return index.join(bad.filter(~final), on=PIECE, how="anti", maintain_order="left")


def _changed(index: pl.DataFrame) -> list[tuple[str, str]]:
    """Packed recordings whose file is another one now."""
    good = index.filter(pl.col("problem").is_null()).unique("path", maintain_order=True)
    found = []
    for path, size, modified, print_ in good.select(
        "path", "size", "modified", "fingerprint"
    ).iter_rows():
        now = file_state(path)
        if now == (size, modified) or now == (None, None):
            continue
        if now[0] != size or fingerprint(path) != print_:
            found.append((path, "has changed since it was packed; the shards hold what it was"))
    return found
