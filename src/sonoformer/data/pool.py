"""Unlabelled recordings for pretraining, from folders, globs, files and manifests.

Every file is opened once, in threads, to learn its length; a file that cannot be used is listed
and left out. Recordings that a test will use are kept out by name, by group and by content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sonoformer.audio.find import find
from sonoformer.audio.probe import AudioInfo, probe
from sonoformer.data.columns import ColumnMap
from sonoformer.data.fingerprint import duplicates, fingerprints, sizes
from sonoformer.data.manifest import Manifest
from sonoformer.errors import AudioError, UserError

TABLES = (".csv", ".tsv", ".parquet", ".txt", ".lst", ".list")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pool:
    """What `gather` found."""

    manifest: Manifest
    """usable stretches, with the further columns `duration` (seconds of the stretch),
    `sample_rate` and `channels` of the file"""
    bad: tuple[AudioError, ...]
    """files that cannot be used, with the reason"""
    held_out: int
    """rows left out because an excluded manifest uses the file, its content or its group"""
    repeated: int
    """rows left out because another file of the pool has the same content"""

    @property
    def hours(self) -> float:
        """Hours of sound in the pool."""
        return float(self.manifest.table["duration"].sum()) / 3600

    @property
    def summary(self) -> str:
        """One sentence for the log."""
        left = [
            f"{count} {what}"
            for count, what in (
                (len(self.bad), "unusable"),
                (self.held_out, "held out for testing"),
                (self.repeated, "exact copies"),
            )
            if count
        ]
        tail = f" (left out: {', '.join(left)})" if left else ""
        return f"{len(self.manifest)} recordings, {self.hours:.2f} h{tail}"


def gather(
    sources: Iterable[str | Path | Manifest],
    *,
    exclude: Iterable[Manifest] = (),
    columns: ColumnMap = ColumnMap(),
    min_seconds: float = 0.0,
    drop_copies: bool = True,
    workers: int = 8,
    progress: Progress | None = None,
) -> Pool:
    """Collect a pool of unlabelled sound.

    Args:
        sources: folders, globs, audio files, and manifests (.csv, .parquet, .txt, ...); stretches
            of a manifest keep their times and columns. Manifests that are read already will do.
        exclude: manifests whose recordings must not be in the pool, for example the test part of a
            labelled set: rows of the same file, of a file with the same content, or of a group with
            the same name are left out.
        columns: names of the columns of the manifests among `sources`.
        min_seconds: leave out shorter stretches.
        drop_copies: keep only the first of files with the same bytes.
        workers: threads that open files.
        progress: called with (files opened, files in all).

    Raises:
        UserError: a source matches nothing, or nothing usable is left.
    """
    table, names = _collect(list(sources), columns)
    rows = table.height
    table = _without(table, list(exclude), workers)
    held_out = rows - table.height
    repeated = 0
    if drop_copies:
        copies = duplicates(table["path"].unique(maintain_order=True).to_list())
        rows = table.height
        table = table.filter(~pl.col("path").is_in(list(copies)))
        repeated = rows - table.height
    table, bad = _measure(table, workers, progress)
    table = table.filter((pl.col("duration") >= min_seconds) & (pl.col("duration") > 0))
    if table.is_empty():
        raise UserError(f"{names}: no usable recording is left ({len(bad)} could not be read)")
    return Pool(Manifest.of(table, names), bad, held_out, repeated)


def probe_all(
    paths: Iterable[str | Path], *, workers: int = 8, progress: Progress | None = None
) -> tuple[dict[str, AudioInfo], tuple[AudioError, ...]]:
    """Open every file in threads: what it is by path, and those that cannot be used."""
    names = list(dict.fromkeys(str(p) for p in paths))
    good: dict[str, AudioInfo] = {}
    bad: list[AudioError] = []
    with ThreadPoolExecutor(workers) as threads:
        for done, (name, result) in enumerate(
            zip(names, threads.map(_probe, names), strict=True), 1
        ):
            if isinstance(result, AudioError):
                bad.append(result)
            else:
                good[name] = result
            if progress is not None and (done % 64 == 0 or done == len(names)):
                progress(done, len(names))
    return good, tuple(bad)


def _probe(name: str) -> AudioInfo | AudioError:
    try:
        return probe(name)
    except AudioError as error:
        return error


def _collect(sources: list[str | Path | Manifest], columns: ColumnMap) -> tuple[pl.DataFrame, str]:
    tables = []
    audio = []
    for source in sources:
        if isinstance(source, Manifest):
            tables.append(source.table)
            continue
        path = Path(source)
        if path.suffix.lower() in TABLES and path.is_file():
            tables.append(Manifest.read(path, columns=columns, separator=";").table)
        else:
            audio.append(source)
    if audio:
        files = [str(p.absolute()) for p in find(audio)]
        tables.append(Manifest.from_files(files).table)
    if not tables:
        raise UserError("no recordings given; name a folder, a file, a pattern or a manifest")
    table = pl.concat(tables, how="diagonal_relaxed")
    table = table.unique(["path", "start", "end", "channel"], keep="first", maintain_order=True)
    names = ", ".join(s.source if isinstance(s, Manifest) else str(s) for s in sources)
    return table, names if len(names) < 80 else f"{names[:77]}..."


def _without(table: pl.DataFrame, exclude: list[Manifest], workers: int) -> pl.DataFrame:
    """The rows whose file, content and group no excluded manifest has."""
    paths = sorted({str(Path(p).resolve()) for manifest in exclude for p in manifest.files})
    if not paths:
        return table
    groups = {g for manifest in exclude for g in manifest.values("group")}
    own = table["path"].unique(maintain_order=True).to_list()
    resolved = {name: str(Path(name).resolve()) for name in own}
    known = set(paths)
    banned = {name for name in own if resolved[name] in known}
    # Equal content needs equal size, so only files whose size an excluded file has are opened.
    tested_sizes = sizes(paths)
    suspect_sizes = set(tested_sizes.values())
    suspects = [
        name for name, size in sizes(own).items() if size in suspect_sizes and name not in banned
    ]
    if suspects:
        met = set(sizes(suspects).values())
        tested = [path for path, size in tested_sizes.items() if size in met]
        taken = set(fingerprints(tested, workers=workers).values()) - {None}
        found = fingerprints(suspects, workers=workers)
        banned |= {name for name, print_ in found.items() if print_ in taken}
    kept = ~pl.col("path").is_in(list(banned))
    if groups:
        kept &= ~pl.col("group").is_in(list(groups)).fill_null(False)
    return table.filter(kept)


def _measure(
    table: pl.DataFrame, workers: int, progress: Progress | None
) -> tuple[pl.DataFrame, tuple[AudioError, ...]]:
    """Rows of readable files, with `duration`, `sample_rate`, `channels` and `recorded_at`."""
    good, bad = probe_all(table["path"].to_list(), workers=workers, progress=progress)
    facts = pl.DataFrame(
        {
            "path": list(good),
            "_seconds": [info.duration for info in good.values()],
            "sample_rate": [info.sample_rate for info in good.values()],
            "channels": [info.channels for info in good.values()],
            "_at": [info.recorded_at for info in good.values()],
        },
        schema={
            "path": pl.String,
            "_seconds": pl.Float64,
            "sample_rate": pl.Int32,
            "channels": pl.Int32,
            "_at": pl.Datetime("us"),
        },
    )
    table = table.drop("duration", "sample_rate", "channels", strict=False)
    table = table.join(facts, on="path", how="inner", maintain_order="left")
    stop = pl.min_horizontal(pl.col("end").fill_null(float("inf")), pl.col("_seconds"))
    table = table.with_columns(
        duration=(stop - pl.col("start")).clip(lower_bound=0),
        recorded_at=pl.col("recorded_at").fill_null(pl.col("_at")),
    )
    return table.drop("_seconds", "_at"), bad
