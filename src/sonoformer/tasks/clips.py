"""Labelled stretches as sound: packed or straight from files, whole for training and windowed for
scoring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.cache import pack
from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import probe_all
from sonoformer.data.sources import ClipSource, FileSource, Stretch
from sonoformer.data.views import First, Subset
from sonoformer.errors import UserError

Progress = Callable[[int, int], None]
Problem = Callable[[str, str], None]


@dataclass(frozen=True)
class Clips:
    """The usable rows of a manifest with their sound; row i of both belong together.

    Attributes:
        manifest: the rows that can be read.
        source: their sound.
    """

    manifest: Manifest
    source: ClipSource

    def __len__(self) -> int:
        return len(self.manifest)

    def take(self, rows: NDArray[np.int64]) -> Clips:
        """Some of the rows."""
        return Clips(self.manifest.take(rows.tolist()), Subset(self.source, rows))

    def where(self, keep: NDArray[np.bool_]) -> Clips:
        """The rows for which `keep` holds."""
        return self.take(np.flatnonzero(keep))

    def first(self, seconds: float) -> Clips:
        """All rows, each with no more than its first seconds."""
        samples = max(1, round(seconds * self.source.sample_rate))
        return Clips(self.manifest, First(self.source, samples))

    @property
    def names(self) -> list[str]:
        """A name for each row: the file, and the times if the row is a part of it."""
        columns = self.manifest.table.select("path", "start", "end").iter_rows()
        return [
            path if not start and end is None else f"{path} [{start:g}-{_number(end)} s]"
            for path, start, end in columns
        ]


def open_clips(
    manifest: Manifest,
    sample_rate: int,
    cache: Path | None,
    *,
    problem: Problem,
    progress: Progress | None = None,
) -> Clips:
    """The sound of a manifest's rows; rows that cannot be read are reported and left out.

    Args:
        manifest: the rows.
        sample_rate: Hz.
        cache: folder in which the sound is packed, decoded once; None reads the files each time.
        problem: called with (path, reason) for each row left out.
        progress: called with (rows done, rows in all).

    Raises:
        UserError: no row can be read.
    """
    stretches = [
        Stretch(path, start, float("inf") if end is None else end, "mix" if ch is None else ch)
        for path, start, end, ch in manifest.table.select("path", "start", "end", "channel").rows()
    ]
    source: ClipSource
    if cache is not None:
        packed = pack(stretches, cache, sample_rate, progress=progress)
        source, rows, problems = packed.cache, packed.rows, packed.problems
    else:
        source, rows, problems = _from_files(stretches, sample_rate, progress)
    for path, reason in problems:
        problem(path, reason)
    if not rows:
        path, reason = problems[0]
        raise UserError(
            f"{manifest.source}: none of its {len(stretches)} clips can be read; the first is "
            f"{path}: {reason}"
        )
    return Clips(manifest.take(rows), source)


def _from_files(
    stretches: list[Stretch], sample_rate: int, progress: Progress | None
) -> tuple[ClipSource, list[int], list[tuple[str, str]]]:
    """Ends that lie in the file, found by opening each file once."""
    found, bad = probe_all([s.path for s in stretches], progress=progress)
    problems = [(str(error.path), error.reason) for error in bad]
    rows, usable = [], []
    for row, stretch in enumerate(stretches):
        if stretch.path not in found:
            continue
        seconds = found[stretch.path].duration
        if stretch.start >= seconds:
            reason = f"starts at {stretch.start:g} s but the file ends at {seconds:g} s"
            problems.append((stretch.path, reason))
            continue
        rows.append(row)
        usable.append(stretch._replace(end=min(stretch.end, seconds)))
    return FileSource(usable, sample_rate), rows, problems


def by_label(manifest: Manifest) -> dict[str, int]:
    """Label -> rows that have it, the commonest first."""
    counts = manifest.table["labels"].explode().drop_nulls().value_counts(sort=True)
    return dict(zip(counts["labels"].to_list(), counts["count"].to_list(), strict=True))


def _number(seconds: float | None) -> str:
    return "end" if seconds is None else f"{seconds:g}"
