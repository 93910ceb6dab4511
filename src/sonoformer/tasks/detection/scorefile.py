"""Frame scores of a recording as a file, written as they come."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal
from uuid import uuid4

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.files import atomic, writing

ScoreFormat = Literal["none", "parquet", "npy"]
TIME = "time"


class ScoreFile:
    """A table of frames (Parquet: seconds of each frame's middle, then the classes) or an array
    `(frames, classes)` of float32 (npy); it appears whole, by `close`.

    Args:
        path: the file, by whose suffix the format is chosen.
        classes: names.
        start, step: seconds at which frame 0 begins, and of a frame.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], start: float, step: float) -> None:
        self.path, self.classes, self.start, self.step = path, classes, start, step
        self._parts = path.parent / f".{path.stem[:40]}-{uuid4().hex[:8]}"
        self._frames = self._number = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        """The next frames, `(frames, classes)`."""
        with writing(self.path):
            self._parts.mkdir(parents=True, exist_ok=True)
            np.save(self._parts / f"{self._number}.npy", scores)
        self._number += 1
        self._frames += len(scores)

    def close(self) -> None:
        """Put the file in its place."""
        try:
            with atomic(self.path) as temporary:
                if self.path.suffix == ".npy":
                    self._write_array(temporary)
                else:
                    self._write_table(temporary)
        finally:
            shutil.rmtree(self._parts, ignore_errors=True)

    def _chunks(self) -> list[NDArray[np.float32]]:
        """The parts as they lie on disk; nothing is read before it is used."""
        paths = [self._parts / f"{number}.npy" for number in range(self._number)]
        return [np.load(path, mmap_mode="r") for path in paths]

    def _write_array(self, target: Path) -> None:
        shape = (self._frames, len(self.classes))
        if not self._frames:
            np.save(target, np.zeros(shape, np.float32))
            return
        whole = np.lib.format.open_memmap(target, "w+", np.float32, shape)
        first = 0
        for chunk in self._chunks():
            whole[first : first + len(chunk)] = chunk
            first += len(chunk)
        whole.flush()

    def _write_table(self, target: Path) -> None:
        names = score_names(self.classes)
        tables, first = [], 0
        for number, chunk in enumerate(self._chunks()):
            times = self.start + self.step * (first + np.arange(len(chunk)) + 0.5)
            columns = {TIME: times, **dict(zip(names, np.asarray(chunk).T, strict=True))}
            part = self._parts / f"{number}.parquet"
            pl.DataFrame(columns).write_parquet(part)
            tables.append(part)
            first += len(chunk)
        if not tables:
            schema = {TIME: pl.Float64, **dict.fromkeys(names, pl.Float32)}
            pl.DataFrame(schema=schema).write_parquet(target)
            return
        pl.scan_parquet(tables).sink_parquet(target)


def score_names(classes: tuple[str, ...]) -> list[str]:
    """A column name for each class: its own, unless that is the column of times."""
    return [f"{name} (class)" if name == TIME else name for name in classes]
