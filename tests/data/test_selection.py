"""A sample of a large collection: spread, loud enough, repeatable and extendable."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import gather
from sonoformer.data.selection import SelectionConfig, estimate, select
from sonoformer.errors import UserError

RATE = 2000
CONFIG = SelectionConfig(hours=16 / 3600, seconds=1.0, by=("site", "date"), sample_rate=RATE)


def record(path: Path, seconds: int, loud: slice, seed: int) -> None:
    """Faint noise with one loud stretch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 1e-3, seconds * RATE)
    samples[loud.start * RATE : loud.stop * RATE] *= 200
    soundfile.write(path, samples, RATE)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    for site, day, count in (("pond", 1, 2), ("pond", 2, 1), ("wood", 1, 1), ("wood", 2, 1)):
        for i in range(count):
            loud = slice(10 + 3 * i, 20 + 3 * i)
            record(folder / site / f"r{i}_2024060{day}_050000.wav", 40, loud, i + 10 * day)
    return folder


@pytest.fixture(scope="module")
def pool(collection: Path) -> Manifest:
    return gather([collection], drop_copies=False).manifest


def starts(manifest: Manifest) -> set[tuple[str, float]]:
    return set(manifest.table.select("path", "start").iter_rows())


def test_every_stratum_has_the_same_share_and_every_recording_its_turn(pool: Manifest) -> None:
    table = select(pool, replace(CONFIG, looks=1)).manifest.table
    assert Counter(table["stratum"]) == {
        f"{site} 2024-06-0{day}": 4 for site in ("pond", "wood") for day in (1, 2)
    }
    first = table.filter(pl.col("stratum") == "pond 2024-06-01")
    assert Counter(Path(p).name[:2] for p in first["path"]) == {"r0": 2, "r1": 2}
    assert ((table["end"] - table["start"]) == 1.0).all()


def test_no_stretch_is_drawn_twice(pool: Manifest) -> None:
    everything = select(pool, replace(CONFIG, hours=1.0)).manifest
    assert len(everything) == len(starts(everything)) == 5 * 40


def test_a_stratum_that_runs_out_leaves_its_share_to_the_others(
    pool: Manifest, collection: Path
) -> None:
    short = pool.with_columns(
        pl.when(pl.col("path").str.contains("wood"))
        .then(2.0)
        .otherwise(pl.col("duration"))
        .alias("duration")
    )
    counts = Counter(select(short, CONFIG).manifest.table["stratum"])
    assert counts == {
        "pond 2024-06-01": 6,
        "pond 2024-06-02": 6,
        "wood 2024-06-01": 2,
        "wood 2024-06-02": 2,
    }


def test_loud_stretches_are_preferred_and_a_share_of_quiet_is_kept(pool: Manifest) -> None:
    def loud(config: SelectionConfig) -> float:
        table = select(pool, config).manifest.table
        begin = pl.when(pl.col("path").str.contains("/r1_")).then(13).otherwise(10)
        return float(table.select((pl.col("start").is_between(begin, begin + 9)).mean()).item())

    base = replace(CONFIG, hours=40 / 3600)
    unheeded = loud(replace(base, looks=1))
    keen = loud(replace(base, looks=4, quiet=0.0))
    mixed = loud(replace(base, looks=4, quiet=0.5))
    assert unheeded < 0.45
    assert keen > 0.6
    assert unheeded < mixed < keen


def test_levels_are_those_of_the_stretch(pool: Manifest) -> None:
    table = select(pool, replace(CONFIG, quiet=0.0)).manifest.table
    row = table.filter(pl.col("level_db") > -30).row(0, named=True)
    samples, _ = soundfile.read(row["path"], start=int(row["start"] * RATE), frames=RATE)
    assert row["level_db"] == pytest.approx(10 * np.log10(samples.var()), abs=0.02)


def test_the_same_seed_draws_the_same_and_another_differently(pool: Manifest) -> None:
    first = select(pool, CONFIG, seed=1, workers=1).manifest
    assert first.table.equals(select(pool, CONFIG, seed=1, workers=4).manifest.table)
    assert starts(first) != starts(select(pool, CONFIG, seed=2).manifest)


def test_extending_keeps_what_is_packed(pool: Manifest, tmp_path: Path) -> None:
    first = select(pool, CONFIG).manifest
    first.save(tmp_path / "selection.parquet")
    kept = Manifest.read(tmp_path / "selection.parquet", allow_absolute=True)
    more = select(pool, replace(CONFIG, hours=32 / 3600), existing=kept).manifest
    assert starts(first) < starts(more)
    assert len(more) == len(starts(more)) == 32
    assert more.table["new"].to_list() == [False] * 16 + [True] * 16
    assert set(Counter(more.table["stratum"]).values()) == {8}
    same = select(pool, CONFIG, existing=kept).manifest
    assert starts(same) == starts(first)


def test_new_recordings_get_their_share_when_extended(pool: Manifest) -> None:
    pond = pool.where(pl.col("path").str.contains("pond"))
    named = replace(CONFIG, by=("date", "place"))
    place = pl.col("path").str.extract(r"(pond|wood)").alias("place")
    first = select(pond.with_columns(place), replace(named, hours=8 / 3600)).manifest
    more = select(pool.with_columns(place), named, existing=first).manifest
    assert set(Counter(more.table["stratum"]).values()) == {4}
    assert starts(first) < starts(more)


def test_unreadable_recordings_are_listed_and_replaced(collection: Path, pool: Manifest) -> None:
    gone = Path(pool.paths[0])
    hidden = gone.with_suffix(".hidden")
    gone.rename(hidden)
    try:
        found = select(pool, CONFIG)
    finally:
        hidden.rename(gone)
    assert [error.path for error in found.bad] == [gone]
    assert len(found.manifest) == 16
    assert str(gone) not in found.manifest.paths


def test_estimate_counts_before_anything_is_drawn(pool: Manifest) -> None:
    found = estimate(pool, CONFIG)
    assert (found.recordings, found.strata, found.clips) == (5, 4, 16)
    assert found.hours_there == pytest.approx(5 * 40 / 3600)
    assert found.gigabytes == pytest.approx(16 * RATE * 2 / 1e9)
    assert found.seconds > 0
    first = select(pool, replace(CONFIG, hours=8 / 3600)).manifest
    assert estimate(pool, CONFIG, existing=first).clips == 8


def test_size_limits_the_sample_too(pool: Manifest) -> None:
    small = replace(CONFIG, max_gb=8 * RATE * 2 / 1e9)
    assert len(select(pool, small).manifest) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 0.0}, "hours must be above 0"),
        ({"max_gb": -1.0}, "max_gb"),
        ({"looks": 0}, "looks"),
        ({"quiet": 1.5}, "quiet"),
        ({"by": ()}, "by must name"),
    ],
)
def test_options_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **changes)


def test_impossible_samples_are_sentences(pool: Manifest) -> None:
    with pytest.raises(UserError, match="'moon' is none of site, date"):
        select(pool, replace(CONFIG, by=("moon",)))
    with pytest.raises(UserError, match="no recording is as long as a stretch, 100 s"):
        select(pool, replace(CONFIG, seconds=100.0))
