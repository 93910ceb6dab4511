"""Training clips straight from shards: a piece is read at its place in the tar, without extraction.

Only the FLAC of the piece is read, in one request; its checksum tells damage from sound. Truncated
or damaged tars, and tars that are gone, cost what they held and nothing else.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from sonoformer.data.shard_index import present, read_index, read_settings, shard_path
from sonoformer.errors import AudioError

_OPEN = 64  # tars kept open in a process


class ShardSource:
    """The pieces in a folder of shards, as a `ClipSource`.

    Args:
        folder: of `pack_shards`.

    Attributes:
        table: the index, a row an item.
        shards: `(items,)` number of the tar that holds each item.
        problems: (path, reason) of tars that are missing or cut short; what they held past the cut
            is not among the items.

    Raises:
        UserError: the folder holds no shards, those of another version, or a damaged index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.sample_rate = int(read_settings(self.folder)["sample_rate"])
        index = read_index(self.folder)
        index = index.filter(pl.col("problem").is_null())
        self.table, self.problems = present(self.folder, index)
        files = self.table.select("path").unique(maintain_order=True).with_row_index("file")
        # Names once a file, not once a piece: there may be millions.
        self._names = files["path"].to_list()
        named = self.table.join(files, on="path", how="left", maintain_order="left")
        self._files = named["file"].to_numpy()
        self.shards = self.table["shard"].to_numpy()
        self.lengths: np.ndarray = self.table["samples"].to_numpy()
        self._offsets, self._bytes, self._crcs = (
            self.table[name].to_numpy() for name in ("offset", "bytes", "crc")
        )
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getstate__(self) -> dict[str, Any]:
        # Workers open the tars for themselves, and have no use for the table.
        return {**self.__dict__, "_open": OrderedDict(), "table": None}

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_open", {}).values():
            os.close(descriptor)

    def name(self, index: int) -> str:
        """The item's recording."""
        return str(self._names[self._files[index]])

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        """As `ClipSource.read`: int16."""
        data = self._flac(index)
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                file.seek(start)
                return file.read(min(count, int(self.lengths[index]) - start), dtype="int16")
        except soundfile.SoundFileError as error:
            raise self._lost(index, f"holds no sound ({error})") from error

    def _flac(self, index: int) -> bytes:
        shard, size = int(self.shards[index]), int(self._bytes[index])
        try:
            data = os.pread(self._descriptor(shard), size, int(self._offsets[index]))
        except OSError as error:
            raise self._lost(index, f"cannot be read ({error.strerror})") from error
        if len(data) < size:
            raise self._lost(index, "is cut short")
        if zlib.crc32(data) != self._crcs[index]:
            raise self._lost(index, "is damaged")
        return data

    def _descriptor(self, shard: int) -> int:
        if shard not in self._open:
            if len(self._open) >= _OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(shard_path(self.folder, shard), os.O_RDONLY)
        self._open.move_to_end(shard)
        return self._open[shard]

    def _lost(self, index: int, reason: str) -> AudioError:
        tar = shard_path(self.folder, int(self.shards[index]))
        return AudioError(self.name(index), f"its place in {tar} {reason}")
