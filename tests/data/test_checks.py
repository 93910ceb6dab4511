"""Findings about a table, with row numbers, also for a million rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from sonoformer.data.findings import Finding, refuse_errors
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


def write(path: Path, seconds: float = 0.5) -> str:
    soundfile.write(path, np.full(int(8000 * seconds), 0.1), 8000)
    return str(path)


def rows(findings: list[Finding]) -> dict[str, tuple[int, ...]]:
    return {finding.kind: finding.rows for finding in findings}


def test_a_clean_table_has_no_findings(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav") for i in range(4)]
    frame = pl.DataFrame({"path": paths, "labels": [["a"], ["b"], ["a"], ["b"]]})
    assert Manifest.of(frame).check(classes=["a", "b"], probe=True) == []


def test_every_kind_of_trouble_is_found_in_its_row(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav")
    gone, text, nowhere = (str(tmp_path / n) for n in ("gone.wav", "text.wav", "no/folder.wav"))
    Path(text).write_text("not audio")
    frame = pl.DataFrame(
        {
            "path": [good, good, gone, good, good, good, good, text, good, nowhere],
            "start": [0.0, 0.3, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0],
            "end": [0.2, 0.3, 0.2, 0.2, 9.0, 0.2, 0.3, None, 0.2, None],
            "labels": [["a"], ["a"], ["a"], ["a"], ["b"], ["a"], [], ["b"], ["c"], ["a"]],
            "negatives": [[], [], [], ["a"], [], [], [], [], [], []],
        },
        schema_overrides={"labels": pl.List(pl.String), "negatives": pl.List(pl.String)},
    )
    found = Manifest.of(frame).check(classes=["a", "b"], probe=True)
    assert rows(found) == {
        "missing-file": (3, 10),
        "bad-times": (2,),
        "negative-time": (4,),
        "contradiction": (4,),
        "unknown-label": (9,),
        "unreadable": (8,),
        "past-end": (5,),
        "repeated-row": (6,),
        "no-label": (7,),
        "single-clip": (),
    }
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=_rank)
    assert "'c'" in next(f.message for f in found if f.kind == "unknown-label")


def _rank(severity: str) -> int:
    return ["error", "warning", "info"].index(severity)


def test_past_end_is_only_looked_for_when_asked(tmp_path: Path) -> None:
    frame = pl.DataFrame({"path": [write(tmp_path / "a.wav")], "end": [9.0]})
    assert Manifest.of(frame).check() == []


def test_one_class_only_is_an_error(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav") for i in range(2)]
    found = Manifest.of(pl.DataFrame({"path": paths, "labels": [["a"], ["a"]]})).check()
    assert [f.kind for f in found] == ["one-class"]
    with pytest.raises(UserError, match="all labels are 'a'"):
        refuse_errors(found, "table.csv")
    frame = pl.DataFrame({"path": paths, "labels": [["a"], []], "reviewed": [True, True]})
    assert Manifest.of(frame).check() == []


def test_findings_name_few_rows_and_count_the_rest() -> None:
    finding = Finding("x", "error", "8 rows are odd", tuple(range(1, 9)))
    assert str(finding) == "8 rows are odd (rows 1, 2, 3, 4, 5 and 3 more)"


@pytest.mark.slow
def test_a_million_rows_read_and_check(tmp_path: Path) -> None:
    count = 1_000_000
    number = pl.int_range(count, eager=True).alias("n")
    start = (number % 10).cast(pl.Float64)
    frame = number.to_frame().select(
        filename=pl.format("site{}/f{}.wav", number % 50, number // 10),
        onset=start,
        offset=start + pl.when(number == 777).then(-1.0).otherwise(1.0),
        species=pl.format("sp{}", number % 300),
    )
    frame.write_csv(tmp_path / "big.csv")
    manifest = Manifest.read(tmp_path / "big.csv")
    assert len(manifest) == count
    found = {finding.kind: finding for finding in manifest.check(classes=manifest.classes)}
    assert len(found["missing-file"].rows) == count
    assert found["bad-times"].rows == (778,)
    assert set(found) == {"missing-file", "bad-times"}
