"""What a format holds comes back bit for bit, whatever the numbers and names."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.annotations import (
    FORMATS,
    Recording,
    read_annotations,
    read_marks,
    write_annotations,
)
from sonoformer.data.events import EVENTS, events, in_order
from sonoformer.errors import UserError

# What is lost is named here, and in the table of docs/annotations.md.
BLANKS_BECOME_UNDERSCORES = {"rttm"}
FIRST_CHANNEL_FOR_NONE = {"raven", "rttm"}
ONE_RECORDING = {"audacity", "textgrid"}

ROOT = Path(__file__).parents[3]
times = st.one_of(
    st.floats(0, 1e9, allow_nan=False), st.floats(0, 100), st.integers(0, 2**40).map(float)
)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
labels = texts.map(str.strip).filter(bool)
words = labels.map(lambda text: re.sub(r"\s+", "_", text)).filter(lambda t: not t.startswith("-"))
maybe = st.one_of(st.none(), st.floats(0, 1e6, allow_nan=False))


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    paths = draw(st.lists(words, min_size=1, max_size=3, unique_by=str.lower))
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        start, end = sorted([draw(times), draw(times)])
        low, high = draw(maybe), draw(maybe)
        if low is not None and high is not None:
            low, high = sorted([low, high])
        score = draw(st.one_of(st.none(), st.floats(-1e3, 1, allow_nan=False)))
        channel = draw(st.one_of(st.none(), st.integers(0, 200)))
        path, label = draw(st.sampled_from(paths)), draw(labels)
        rows.append((path, start, end, label, score, low, high, channel))
    return events(pl.DataFrame(rows, schema=EVENTS, orient="row"))


def kept(table: pl.DataFrame, name: str, path: str | None) -> pl.DataFrame:
    """What of a table a format is said to hold."""
    free = ("score", "low_hz", "high_hz", "channel")
    lost = [column for column in free if column not in FORMATS[name].holds]
    table = table.with_columns(pl.lit(None, EVENTS[column]).alias(column) for column in lost)
    if name in BLANKS_BECOME_UNDERSCORES:
        joined = ["_".join(label.split()) for label in table["label"]]
        table = table.with_columns(label=pl.Series(joined, dtype=pl.String))
    if name in FIRST_CHANNEL_FOR_NONE:
        table = table.with_columns(pl.col("channel").fill_null(0))
    if path is not None:
        table = table.with_columns(path=pl.lit(path, pl.String))
    return in_order(table)


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=20, deadline=None)
@given(table=tables())
def test_a_table_over_several_recordings_comes_back(name: str, table: pl.DataFrame) -> None:
    own = None
    if name in ONE_RECORDING:
        own = "marks"
        table = table.filter(pl.col("path") == (table["path"][0] if table.height else ""))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"marks{FORMATS[name].suffix}"
        assert write_annotations(table, file, name) == [file]
        for format in (name, "auto"):
            again = read_annotations(file, format)
            assert in_order(again).equals(kept(table, name, own)), again
            assert again.schema == table.schema


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_folder_of_tables_comes_back_with_recordings_without_events(
    name: str, tmp_path: Path
) -> None:
    rows = [
        ("owl", 0.1, 0.30000000000000004, "hoot", None, None, None, 0),
        ("owl", 0.2, 0.7, "hoot", None, None, None, 0),
        ("bat", 5e-324, 1 / 3, "click", None, None, None, 0),
        ("bat", 2.0, 2.0, "point", None, None, None, 0),
    ]
    table = events(pl.DataFrame(rows, schema=EVENTS, orient="row"))
    facts = dict.fromkeys(["owl", "silence", "bat"], Recording(10.0, None))
    files = write_annotations(table, tmp_path / "out", name, recordings=facts)
    assert [file.name for file in files] == [f"{p}{FORMATS[name].suffix}" for p in facts]
    marks = read_marks(tmp_path / "out")
    assert marks.empty == ("silence",)
    assert in_order(marks.events).equals(kept(table, name, None))


def test_the_table_of_the_docs_says_what_formats_hold() -> None:
    columns = {"path": 2, "score": 3, "low_hz": 4, "high_hz": 4, "channel": 5}
    page = (ROOT / "docs/annotations.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    told = {cells[0].strip(" `"): [cell.strip(" `") for cell in cells] for cells in rows}
    for name, kind in FORMATS.items():
        cells = told[name]
        assert cells[1] == kind.suffix
        assert {c for c, place in columns.items() if cells[place] == "yes"} == set(kind.holds)
        assert (cells[6] == "yes") == kind.empty


def test_raven_has_no_rounding_over_many_recordings(tmp_path: Path) -> None:
    rows = [(f"{n}", 0.1 + n / 7, 0.7 + n / 3, "a", n / 9, None, None, 0) for n in range(50)]
    table = events(pl.DataFrame(rows, schema=EVENTS, orient="row"))
    facts = {f"{n}": Recording(3600.1 + n / 3) for n in range(50)}
    (file,) = write_annotations(table, tmp_path / "all.selections.txt", "raven", recordings=facts)
    assert read_annotations(file).equals(table)


def test_raven_boxes_end_at_the_nyquist_frequency(tmp_path: Path) -> None:
    rows = [("x", 0.0, 1.0, "a", None, 100.0, 9000.0, 0), ("x", 1.0, 2.0, "a", *[None] * 4)]
    table = events(pl.DataFrame(rows, schema=EVENTS, orient="row"))
    file = tmp_path / "x.selections.txt"
    write_annotations(table, file, "raven", recordings={"x": Recording(nyquist=8000.0)})
    again = read_annotations(file)
    assert again["high_hz"].to_list() == [8000.0, 8000.0]
    assert again["low_hz"].to_list() == [100.0, 0.0]


def test_one_file_of_a_format_without_names_holds_one_recording(tmp_path: Path) -> None:
    table = events(pl.DataFrame({"path": ["a", "b"], "start": 0, "end": 1, "label": "x"}))
    for name in ONE_RECORDING:
        with pytest.raises(UserError, match="holds one recording, and there are 2"):
            write_annotations(table, tmp_path / f"out{FORMATS[name].suffix}", name)
    with pytest.raises(UserError, match="cannot hold a file name with blanks"):
        write_annotations(table.with_columns(path=pl.lit("a b")), tmp_path / "x.rttm", "rttm")
    with pytest.raises(UserError, match=r"--to ravn: unknown.*Did you mean 'raven'"):
        write_annotations(table, tmp_path / "x", "ravn")
    with pytest.raises(UserError, match="nothing was written: 2 events have an end before"):
        write_annotations(table.with_columns(end=pl.lit(-1.0)), tmp_path / "x.csv", "csv")


def test_further_columns_survive_where_columns_are_free(tmp_path: Path) -> None:
    row = {"path": ["x"], "start": 0.0, "end": 1.0, "label": "a", "snr_db": 1 / 3, "who": "me"}
    table = events(pl.DataFrame(row))
    for name in ("csv", "json", "jsonl", "parquet"):
        (file,) = write_annotations(table, tmp_path / f"x.{name}", name)
        again = read_annotations(file)
        assert again["who"].to_list() == ["me"]
        assert float(again["snr_db"][0]) == 1 / 3
