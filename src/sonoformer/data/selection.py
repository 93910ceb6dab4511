"""A sample of a collection that is too large to pack: some hours out of terabytes.

Recordings fall into strata (by site and date, say). Each stratum gets the same share, as far as it
has sound; inside it, every recording gives one stretch before any gives a second. For each stretch
that is kept, `looks` candidates are listened to for a second and the loudest is taken, because most
of a night is silence; a share of `quiet` draws takes its candidate unheard, so that the silence is
learned too. All choices are a function of the seed and the names, so a sample can be repeated, and
extended later without drawing again what is already packed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from sonoformer.audio.decode import read_native
from sonoformer.data.manifest import Manifest
from sonoformer.errors import AudioError, UserError

Progress = Callable[[int, int], None]
SILENCE_DB = -120.0
_DERIVED = ("site", "date", "hour", "month")


@dataclass(frozen=True)
class SelectionConfig:
    """How much to take, and how to spread it."""

    hours: float = 10.0
    """hours of sound to select in all, those already selected included"""
    max_gb: float | None = None
    """size of the packed sample in GB, as a second limit"""
    by: tuple[str, ...] = ("site", "date")
    """what to spread over: site (first folder), date, hour, month, or a column of the table"""
    seconds: float = 10.0
    """length of a stretch in seconds"""
    looks: int = 4
    """candidates listened to for each stretch that is kept; 1 takes no heed of level"""
    quiet: float = 0.2
    """share of stretches taken unheard, so that silence stays in the sample"""
    sample_rate: int = 16000
    """rate at which the sample will be packed, in Hz (for the size)"""

    def __post_init__(self) -> None:
        for name, value, low in (("hours", self.hours, 0.0), ("seconds", self.seconds, 0.0)):
            if not value > low:
                raise UserError(f"{name} must be above {low:g}; got {value:g}")
        if self.max_gb is not None and not self.max_gb > 0:
            raise UserError(f"max_gb must be above 0; got {self.max_gb:g}")
        if self.looks < 1:
            raise UserError(f"looks must be at least 1; got {self.looks}")
        if not 0 <= self.quiet <= 1:
            raise UserError(f"quiet is a share from 0 to 1; got {self.quiet:g}")
        if not self.by:
            raise UserError("by must name at least one of site, date, hour, month or a column")

    @property
    def clips(self) -> int:
        """Stretches that fit both limits."""
        seconds = self.hours * 3600
        if self.max_gb is not None:
            seconds = min(seconds, self.max_gb * 1e9 / (2 * self.sample_rate))
        return int(seconds / self.seconds)


@dataclass(frozen=True)
class Estimate:
    """What a selection would be, before anything is decoded."""

    recordings: int
    hours_there: float
    """hours in the collection"""
    strata: int
    clips: int
    """stretches to select that are not selected yet"""
    hours: float
    """hours of those stretches"""
    gigabytes: float
    """size of those stretches packed as 16-bit samples"""
    seconds: float
    """time to listen to the candidates and to pack, from a trial on a few of them"""

    def __str__(self) -> str:
        minutes = self.seconds / 60
        time = f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
        return (
            f"{self.clips} stretches, {self.hours:.2f} h of {self.hours_there:.1f} h in "
            f"{self.recordings} recordings and {self.strata} strata: {self.gigabytes:.2f} GB, "
            f"about {time}"
        )


@dataclass(frozen=True)
class Selection:
    """The stretches selected."""

    manifest: Manifest
    """`path`, `start`, `end`, and `stratum`, `level_db` (dBFS, null if unheard), `new`"""
    bad: tuple[AudioError, ...]
    """recordings that could not be read; others of their stratum took their place"""


def estimate(
    pool: Manifest,
    config: SelectionConfig,
    *,
    seed: int = 0,
    existing: Manifest | None = None,
    workers: int = 4,
) -> Estimate:
    """Size and time of a selection, from headers and a trial on a few stretches.

    Args:
        pool: recordings with a `duration` column, as `pool.gather` gives them.
        config: how much and how spread.
        seed: of the draw.
        existing: stretches already selected, which count towards the goal.
        workers: threads that will read.
    """
    recordings = _recordings(pool, config)
    wanted = _wanted(recordings, config, existing)
    clips = sum(wanted.values())
    begin, heard = perf_counter(), 0
    # Listening and packing cost a decode each; a trial on stretches of different recordings.
    step = max(1, recordings.height // 8)
    for row in recordings.gather_every(step).head(8).iter_rows(named=True):
        try:
            read_native(row["path"], start=row["start"], end=row["start"] + config.seconds)
            heard += 1
        except AudioError:
            continue
    each = (perf_counter() - begin) / max(1, heard)
    reads = clips * (1 + (config.looks if config.looks > 1 else 0))
    hours = clips * config.seconds / 3600
    return Estimate(
        recordings=recordings.height,
        hours_there=float(recordings["duration"].sum()) / 3600,
        strata=recordings["stratum"].n_unique(),
        clips=clips,
        hours=hours,
        gigabytes=hours * 3600 * 2 * config.sample_rate / 1e9,
        seconds=reads * each / max(1, min(workers, os.cpu_count() or 1)),
    )


def select(
    pool: Manifest,
    config: SelectionConfig,
    *,
    seed: int = 0,
    existing: Manifest | None = None,
    workers: int = 4,
    progress: Progress | None = None,
) -> Selection:
    """Draw the sample.

    Args:
        pool: recordings with a `duration` column, as `pool.gather` gives them.
        config: how much and how spread.
        seed: another seed gives another sample.
        existing: stretches already selected (a table that `select` gave); they stay, count towards
            their stratum's share, and are not drawn again.
        workers: threads that listen.
        progress: called with (stretches drawn, stretches to draw).

    Raises:
        UserError: no recording is long enough, or `by` names no column.
    """
    recordings = _recordings(pool, config)
    wanted = _wanted(recordings, config, existing)
    taken = _taken(existing)
    total, done = sum(wanted.values()), 0
    rows: list[tuple[str, float, float, str, float | None]] = []
    bad: dict[str, AudioError] = {}
    with ThreadPoolExecutor(workers) as threads:
        for (stratum,), table in recordings.group_by(["stratum"], maintain_order=True):
            name = str(stratum)
            candidates = _candidates(table, config.seconds, seed, taken)
            for path, start, level in _draw(
                candidates, wanted.get(name, 0), name, config, seed, threads, bad
            ):
                rows.append((path, start, start + config.seconds, name, level))
                done += 1
                if progress is not None:
                    progress(done, total)
    schema = {
        "path": pl.String,
        "start": pl.Float64,
        "end": pl.Float64,
        "stratum": pl.String,
        "level_db": pl.Float64,
    }
    fresh = pl.DataFrame(rows, schema=schema, orient="row").with_columns(new=True)
    kept = [] if existing is None else [_plain(existing.table, schema).with_columns(new=False)]
    return Selection(Manifest.of(pl.concat([*kept, fresh]), pool.source), tuple(bad.values()))


def _recordings(pool: Manifest, config: SelectionConfig) -> pl.DataFrame:
    """Recordings long enough, with `stratum`, in the order of their names."""
    table = pool.table.with_columns(pl.col("duration").cast(pl.Float64))
    table = table.filter(pl.col("duration") >= config.seconds).sort("path", "start")
    if table.is_empty():
        raise UserError(
            f"{pool.source}: no recording is as long as a stretch, {config.seconds:g} s; "
            "choose shorter stretches"
        )
    parts = [_stratum(table, name).cast(pl.String).fill_null("unknown") for name in config.by]
    joined = table.select(stratum=pl.concat_str([pl.lit(part) for part in parts], separator=" "))[
        "stratum"
    ]
    return table.with_columns(joined)


def _stratum(table: pl.DataFrame, name: str) -> pl.Series:
    if name in table.columns:
        return table[name]
    if name == "site":
        folders = table["path"].str.replace(r"[^/\\]*$", "").unique().to_list()
        base = os.path.commonpath(folders)
        below = table["path"].str.slice(len(base.rstrip("/")) + 1)
        # A recording directly in the common folder belongs to no site folder.
        return below.str.extract(r"^([^/\\]+)[/\\]").fill_null(Path(base).name)
    forms = {"date": "%Y-%m-%d", "hour": "%H", "month": "%Y-%m"}
    if name in forms:
        return table["recorded_at"].dt.strftime(forms[name])
    raise UserError(f"by: {name!r} is none of {', '.join(_DERIVED)}, nor a column of the table")


def _wanted(
    recordings: pl.DataFrame, config: SelectionConfig, existing: Manifest | None
) -> dict[str, int]:
    """Stretches still to draw in each stratum: equal shares, as far as a stratum has sound."""
    capacity = recordings.group_by("stratum", maintain_order=True).agg(
        (pl.col("duration") // config.seconds).sum().cast(pl.Int64).alias("slots")
    )
    names, slots = capacity["stratum"].to_list(), capacity["slots"].to_numpy()
    have = np.zeros(len(names), np.int64)
    if existing is not None and len(existing):
        counts = dict(existing.table["stratum"].value_counts().iter_rows())
        have = np.array([counts.get(name, 0) for name in names], np.int64)
    goal = config.clips
    if existing is not None:
        goal -= len(existing) - int(have.sum())  # strata that are gone still take their room
    level = _level(np.maximum(slots, have), have, goal)
    extra = np.clip(level, have, np.maximum(slots, have)) - have
    short = goal - int(have.sum() + extra.sum())
    open_ = np.flatnonzero((have + extra < slots) & (have <= level))
    extra[open_[: max(0, short)]] += 1
    return dict(zip(names, (int(e) for e in extra), strict=True))


def _level(slots: np.ndarray, have: np.ndarray, goal: int) -> int:
    """The largest equal share such that all strata together stay within `goal`."""
    low, high = 0, int(slots.max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.clip(middle, have, slots).sum()) <= goal:
            low = middle
        else:
            high = middle - 1
    return low


def _taken(existing: Manifest | None) -> dict[str, list[float]]:
    """Starts of the stretches already selected, by file."""
    if existing is None:
        return {}
    starts: dict[str, list[float]] = {}
    for path, start in existing.table.select("path", "start").iter_rows():
        starts.setdefault(path, []).append(start)
    return starts


def _candidates(
    table: pl.DataFrame, seconds: float, seed: int, taken: dict[str, list[float]]
) -> Iterator[tuple[str, float]]:
    """Endless supply while it lasts: one stretch of every recording, then a second of each, ...

    The order of recordings changes from round to round; that of a recording's stretches is its own.
    """
    files = []
    for path, start, duration in table.select("path", "start", "duration").iter_rows():
        rng = _rng(seed, Path(path).name, start, duration)
        files.append((path, start, rng.permutation(int(duration // seconds)), rng))
    turn = 0
    while files:
        files = [file for file in files if turn < len(file[2])]
        for path, start, slots, _ in sorted(files, key=lambda file: file[3].random()):
            begin = start + float(slots[turn]) * seconds
            if all(abs(begin - other) >= seconds for other in taken.get(path, ())):
                yield path, begin
        turn += 1


def _draw(
    candidates: Iterator[tuple[str, float]],
    count: int,
    stratum: str,
    config: SelectionConfig,
    seed: int,
    threads: ThreadPoolExecutor,
    bad: dict[str, AudioError],
) -> Iterator[tuple[str, float, float | None]]:
    """`count` stretches of a stratum as (path, start, level in dBFS or None if unheard)."""
    drawn = 0
    rng = _rng(seed, stratum)
    spare: list[tuple[str, float]] = []
    while drawn < count:
        unheard = config.looks == 1 or rng.random() < config.quiet
        offered = list(islice(candidates, 1 if unheard else config.looks))
        if not offered:
            # The stratum is used up; what was passed over for louder stretches fills the rest.
            if not spare:
                return
            offered, spare, unheard = spare[:1], spare[1:], True
        offered = [(path, start) for path, start in offered if path not in bad]
        listen = [(path, start, config.seconds) for path, start in offered]
        levels = list(threads.map(_loudness, listen))
        heard = []
        for place, level in zip(offered, levels, strict=True):
            if isinstance(level, AudioError):
                bad[place[0]] = level
            else:
                heard.append((level, place))
        if not heard:
            continue
        level, (path, start) = max(heard, key=lambda item: item[0])
        spare += [place for _, place in heard if place != (path, start)]
        drawn += 1
        yield path, start, None if unheard else round(level, 2)


def _loudness(place: tuple[str, float, float]) -> float | AudioError:
    """Level in dBFS of at most one second in the middle of a stretch, the mean taken out."""
    path, start, seconds = place
    length = min(1.0, seconds)
    begin = start + (seconds - length) / 2
    try:
        samples, _ = read_native(path, start=begin, end=begin + length)
    except AudioError as error:
        return error
    power = float(np.var(samples.astype(np.float64)))
    return max(SILENCE_DB, 10 * float(np.log10(power))) if power > 0 else SILENCE_DB


def _plain(table: pl.DataFrame, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    missing = [pl.lit(None).alias(name) for name in schema if name not in table.columns]
    return table.with_columns(missing).select(pl.col(n).cast(t) for n, t in schema.items())


def _rng(seed: int, *parts: object) -> np.random.Generator:
    text = "\x00".join(map(str, (seed, *parts)))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
