"""Tables for people's tools, read back."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from sonoformer.errors import UserError
from sonoformer.inference import FORMATS, write_table

LEAST = {"frog": 0.5, "owl\tor, bat": 0.3}


@pytest.fixture
def table() -> pl.LazyFrame:
    clock = datetime(2024, 5, 1, 22, 0)
    return pl.DataFrame(
        {
            "path": ["a/night.wav", "a/night.wav", "b/night.wav"],
            "start": [0.0, 10.0, 0.0],
            "end": [10.0, 14.5, 10.0],
            "clock": [clock, clock.replace(second=10), None],
            "frog": [0.9, 0.2, 0.6],
            "owl\tor, bat": [0.1, 0.4, 0.35],
        },
        schema_overrides={"clock": pl.Datetime("ms")},
    ).lazy()


def test_whole_tables_hold_the_same_values(table: pl.LazyFrame, tmp_path: Path) -> None:
    whole = table.collect()
    for format in ("csv", "json", "parquet"):
        (path,) = write_table(table, tmp_path, format, thresholds=LEAST)
        if format == "parquet":
            assert pl.read_parquet(path).equals(whole)
        elif format == "csv":
            again = pl.read_csv(path)
            assert again["frog"].to_list() == pytest.approx(whole["frog"].to_list())
            assert again.columns == whole.columns
        else:
            rows = json.loads(path.read_text())
            assert [row["owl\tor, bat"] for row in rows] == whole["owl\tor, bat"].to_list()


def selections(path: Path) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert all(len(line) == len(lines[0]) for line in lines)
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_raven_tables_page_through_all_recordings(table: pl.LazyFrame, tmp_path: Path) -> None:
    durations = {"a/night.wav": 14.5, "b/night.wav": 12.0}
    files = write_table(table, tmp_path, "raven", thresholds=LEAST, durations=durations)
    assert len({file.name for file in files}) == 3  # two recordings of one name stay apart
    rows = selections(files[0])
    assert [row["Species"] for row in rows] == ["frog", "owl or, bat", "frog", "owl or, bat"]
    assert [float(row["Begin Time (s)"]) for row in rows] == [0.0, 10.0, 14.5, 14.5]
    assert [float(row["File Offset (s)"]) for row in rows] == [0.0, 10.0, 0.0, 0.0]
    assert rows[0]["Begin Date Time"] == "2024/05/01 22:00:00.000"
    assert [float(r["Begin Time (s)"]) for r in selections(files[2])] == [0.0, 0.0]
    assert [r["Selection"] for r in selections(files[1])] == ["1", "2"]


def test_audacity_labels_have_three_columns(table: pl.LazyFrame, tmp_path: Path) -> None:
    files = write_table(table, tmp_path, "audacity", thresholds=LEAST)
    lines = files[0].read_text().splitlines()
    assert lines[0] == "0.000000\t10.000000\tfrog 0.900"
    assert all(line.count("\t") == 2 for line in lines)


def test_only_the_best_class(table: pl.LazyFrame, tmp_path: Path) -> None:
    files = write_table(table, tmp_path, "raven", thresholds=LEAST, best_only=True)
    assert [row["Species"] for row in selections(files[0])] == ["frog", "owl or, bat", "frog"]


def test_a_table_without_events_is_a_table(table: pl.LazyFrame, tmp_path: Path) -> None:
    none = dict.fromkeys(LEAST, 1.0)
    files = write_table(table, tmp_path, "raven", thresholds=none)
    assert selections(files[0]) == []
    assert write_table(table, tmp_path, "audacity", thresholds=none) == []


def test_an_unknown_format_is_refused(table: pl.LazyFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'raven'"):
        write_table(table, tmp_path, "ravn", thresholds=LEAST)
    assert set(FORMATS) == {"csv", "json", "parquet", "raven", "audacity"}
