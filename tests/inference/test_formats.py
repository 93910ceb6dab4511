"""Tables for people's tools, read back."""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from sonoformer.errors import UserError
from sonoformer.inference import FORMATS, write_table
from sonoformer.tasks.prediction import score_columns

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
            times = [row["clock"] for row in rows]
            assert times == ["2024-05-01T22:00:00.000", "2024-05-01T22:00:10.000", None]
            assert pl.read_csv(tmp_path / "predictions.csv")["clock"].to_list() == times


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
    assert lines[0] == "0.0\t10.0\tfrog 0.900"
    assert all(line.count("\t") == 2 for line in lines)


def test_only_the_best_class(table: pl.LazyFrame, tmp_path: Path) -> None:
    files = write_table(table, tmp_path, "raven", thresholds=LEAST, best_only=True)
    assert [row["Species"] for row in selections(files[0])] == ["frog", "owl or, bat", "frog"]


def test_a_table_without_events_is_a_table(table: pl.LazyFrame, tmp_path: Path) -> None:
    none = dict.fromkeys(LEAST, 1.0)
    files = write_table(table, tmp_path, "raven", thresholds=none)
    assert selections(files[0]) == []
    # Every recording has its file, so that none of an earlier threshold stays behind.
    write_table(table, tmp_path, "audacity", thresholds=LEAST)
    files = write_table(table, tmp_path, "audacity", thresholds=none)
    assert [file.read_text() for file in files] == ["", ""]


def test_an_unknown_format_is_refused(table: pl.LazyFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'raven'"):
        write_table(table, tmp_path, "ravn", thresholds=LEAST)
    assert set(FORMATS) == {"csv", "json", "parquet", "raven", "audacity"}


def test_any_class_name_keeps_its_place_in_a_table(tmp_path: Path) -> None:
    names = ["path", "path (class)", 'say "hi", x', "two\nlines", "tab\there", "score", "label"]
    columns = score_columns(names)
    assert len(set(columns)) == len(names)
    assert columns[1:] == names[1:]
    place = {"path": ["x.wav"], "start": [0.0], "end": [1.0]}
    scores = {column: [0.5 + number / 100] for number, column in enumerate(columns)}
    lazy = (
        pl.DataFrame({**place, **scores})
        .with_columns(clock=pl.lit(None, pl.Datetime("ms")))
        .select("path", "start", "end", "clock", *columns)
        .lazy()
    )
    least = dict.fromkeys(names, 0.5)
    (path,) = write_table(lazy, tmp_path, "csv", thresholds=least)
    with path.open(newline="") as file:
        header, row = csv.reader(file)
    assert header[4:] == columns
    assert [float(value) for value in row[4:]] == pytest.approx([s[0] for s in scores.values()])
    files = write_table(lazy, tmp_path, "raven", thresholds=least)
    clean = [re.sub(r"[\t\n]", " ", name) for name in names]
    assert [row["Species"] for row in selections(files[0])] == clean[::-1]
    (path,) = write_table(lazy, tmp_path, "audacity", thresholds=least)
    assert all(line.count("\t") == 2 for line in path.read_text().splitlines())
