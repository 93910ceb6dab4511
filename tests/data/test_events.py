"""Tables of events, and manifests of them."""

from __future__ import annotations

import math

import polars as pl
import pytest

from sonoformer.data.events import (
    EVENTS,
    check_events,
    events,
    events_of,
    in_order,
    manifest_of,
    refuse_bad_events,
    reviewed_of,
    whole,
)
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


def table(*rows: tuple[object, ...]) -> pl.DataFrame:
    """Rows of (path, start, end, label)."""
    return events(pl.DataFrame(rows, ["path", "start", "end", "label"], orient="row", strict=False))


def test_a_table_gets_all_columns_in_their_types_and_keeps_further_ones() -> None:
    found = events(pl.DataFrame({"end": [2], "start": [1], "label": ["a"], "path": ["x"], "me": 1}))
    assert found.columns == [*EVENTS, "me"]
    assert [found.schema[name] for name in EVENTS] == list(EVENTS.values())
    assert events().is_empty()
    with pytest.raises(UserError, match="has no end and no label"):
        events(pl.DataFrame({"path": ["x"], "start": [0.0]}))
    with pytest.raises(UserError, match="marks"):
        events(pl.DataFrame({"path": "x", "start": "a", "end": 1, "label": "b"}), "marks")


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (("x", -0.1, 1.0, "a"), "negative-time"),
        (("x", 2.0, 1.0, "a"), "bad-times"),
        (("x", math.nan, 1.0, "a"), "non-finite"),
        (("x", 1.0, math.inf, "a"), "non-finite"),
        (("x", 1.0, None, "a"), "non-finite"),
        (("x", 1.0, 11.0, "a"), "past-end"),
        (("x", 1.0, 2.0, " "), "empty-label"),
        (("x", 1.0, 2.0, None), "empty-label"),
    ],
)
def test_errors_are_found_with_their_rows(row: tuple[object, ...], kind: str) -> None:
    found = table(("x", 0.5, 9.0, "b"), row)
    errors = [f for f in check_events(found, {"x": 10.0}) if f.severity == "error"]
    assert kind in [f.kind for f in errors]
    assert all(f.rows == (2,) for f in errors)
    with pytest.raises(UserError, match=r"^marks: 1 event has .*\(row 2\)"):
        refuse_bad_events(found, "marks", {"x": 10.0})


def test_a_sound_table_has_no_errors_and_little_overshoot_is_let_pass() -> None:
    found = table(("x", 0.0, 10.04, "a"), ("y", 3.0, 99.0, "a"), ("x", 2.0, 3.0, "b"))
    assert check_events(found, {"x": 10.0}) == []
    refuse_bad_events(found, "marks", {"x": 10.0})


def test_overlaps_of_one_class_points_and_repeats_are_warnings() -> None:
    rows = [("x", 5.0, 6.0, "a"), ("x", 0.0, 5.5, "a"), ("x", 1.0, 1.0, "b"), ("y", 5.0, 6.0, "a")]
    kinds = {f.kind: (f.severity, f.rows) for f in check_events(table(*rows, rows[3]))}
    assert kinds["overlap"] == ("warning", (1, 5))
    assert kinds["no-duration"] == ("warning", (3,))
    assert kinds["repeated-row"] == ("warning", (5,))


def test_bands_must_rise() -> None:
    found = table(("x", 0.0, 1.0, "a"), ("x", 1.0, 2.0, "a")).with_columns(
        low_hz=pl.Series([10.0, -1.0]), high_hz=pl.Series([5.0, 9.0])
    )
    assert [(f.kind, f.rows) for f in check_events(found)] == [("bad-band", (1, 2))]


def test_events_and_reviewed_stretches_survive_a_manifest_and_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    a, b, c = (str(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav"))
    found = table((a, 0.1, 0.7, "rumble"), (a, 0.3, 2.0, "roar"), (b, 1.0, 3.0, "rumble"))
    found = found.with_columns(
        score=pl.Series([0.5, None, 0.25]), low_hz=pl.Series([10.0, None, None])
    )
    reviewed = pl.concat([whole([a, c]), pl.DataFrame({"path": [b], "start": [1.0], "end": [4.0]})])
    manifest = manifest_of(found, reviewed=reviewed)
    manifest.save(tmp_path / "truth.parquet")
    for one in (manifest, Manifest.read(tmp_path / "truth.parquet")):
        assert in_order(events_of(one)).equals(in_order(found))
        assert reviewed_of(one).equals(reviewed)
        assert c in one.files  # nothing was found in it, and that is kept
    assert manifest_of(found).table["reviewed"].any() is False


def test_a_stretch_with_several_labels_gives_an_event_each() -> None:
    rows = pl.DataFrame({"path": ["x"], "start": [1.0], "end": [2.0], "labels": [["b", "a"]]})
    assert events_of(Manifest.of(rows))["label"].to_list() == ["b", "a"]
    with pytest.raises(UserError, match="without an end"):
        events_of(Manifest.of(rows.drop("end")))
