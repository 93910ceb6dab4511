"""Strong labels: which classes are in a cell, and where that is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.events import manifest_of, whole
from sonoformer.data.manifest import Manifest
from sonoformer.data.strong import Truth, is_weak, parents, recordings, with_parents
from sonoformer.errors import UserError

TEXTS = pl.List(pl.String)


def table(rows: list[tuple], **columns: list) -> Manifest:
    """Rows `path, start, end, labels`."""
    names = ("path", "start", "end", "labels")
    frame = {
        name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    frame |= columns
    return Manifest.of(pl.DataFrame(frame, schema_overrides={"labels": TEXTS}), "marks")


def truth_of(manifest: Manifest, seconds: float = 10.0, **options: object) -> Truth:
    found = recordings(manifest)
    lengths = np.full(len(found), seconds)
    return Truth(found, found.classes, lengths, **options)  # type: ignore[arg-type]


def edges(count: int, step: float = 1.0, start: float = 0.0) -> np.ndarray:
    return start + step * np.arange(count + 1)


def test_a_cell_is_positive_from_half_of_it_on() -> None:
    truth = truth_of(table([("a.wav", 2.5, 5.4, ["x"])]))
    target, known = truth.cells(0, edges(10))
    assert target[:, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert known.all()
    # A crop is the same cut out of the whole.
    part, _ = truth.cells(0, edges(4, start=3.0))
    assert np.array_equal(part, target[3:7])


def test_a_call_shorter_than_half_a_cell_marks_the_cell_of_its_middle() -> None:
    truth = truth_of(table([("a.wav", 2.9, 3.2, ["x"]), ("a.wav", 7.1, 7.2, ["x"])]))
    target, _ = truth.cells(0, edges(10))
    assert np.flatnonzero(target[:, 0]).tolist() == [3, 7]


def test_soft_targets_are_the_share_that_is_covered() -> None:
    truth = truth_of(table([("a.wav", 2.75, 5.4, ["x"])]), soft=True)
    assert truth.cells(0, edges(6))[0][:, 0] == pytest.approx([0, 0, 0.25, 1, 1, 0.4])


def test_overlapping_marks_of_a_class_count_once() -> None:
    truth = truth_of(table([("a.wav", 1.0, 1.3, ["x"]), ("a.wav", 1.1, 1.4, ["x"])]), soft=True)
    assert truth.cells(0, edges(3))[0][1, 0] == pytest.approx(0.4)
    assert [(e.start, e.end) for e in truth.events] == [(1.0, 1.4)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 6)), min_size=1, max_size=12),
    st.floats(0, 15),
    st.floats(0.05, 2),
)
def test_shares_agree_with_counting_on_a_fine_grid(
    marks: list[tuple[float, float]], start: float, step: float
) -> None:
    truth = truth_of(
        table([("a.wav", a, a + long, ["x"]) for a, long in marks]), seconds=20.0, soft=True
    )
    borders = edges(6, step, start)
    fine = (np.arange(6 * 400) + 0.5) / 400 * step + start
    inside = np.zeros(len(fine), bool)
    for a, long in marks:
        inside |= (fine >= a) & (fine < min(a + long, 20.0))
    counted = inside.reshape(6, 400).mean(1)
    assert truth.cells(0, borders)[0][:, 0] == pytest.approx(counted, abs=len(marks) * 2 / 400)


def test_a_table_of_marks_means_that_recordings_were_heard_in_full() -> None:
    truth = truth_of(table([("a.wav", 2.0, 4.0, ["x"]), ("b.wav", None, None, [])]))
    for item in (0, 1):
        assert truth.cells(item, edges(10))[1].all()
        assert truth.known_stretches(item) == [(0.0, 10.0)]


def test_reviewed_stretches_are_all_that_is_known_where_a_table_names_them() -> None:
    marks = pl.DataFrame(
        {"path": ["a.wav", "a.wav"], "start": [2.0, 8.0], "end": [3.0, 9.0], "label": ["x", "y"]}
    )
    heard = pl.DataFrame({"path": ["a.wav"], "start": [0.0], "end": [5.0]})
    truth = truth_of(manifest_of(marks, reviewed=heard))
    target, known = truth.cells(0, edges(10))
    assert np.flatnonzero(target[:, 0]).tolist() == [2]
    assert np.flatnonzero(known[:, 0]).tolist() == [0, 1, 2, 3, 4]
    # A mark outside says only that its own class is there.
    assert np.flatnonzero(known[:, 1]).tolist() == [0, 1, 2, 3, 4, 8]
    whole_truth = truth_of(manifest_of(marks, reviewed=whole(["a.wav"])))
    assert whole_truth.cells(0, edges(10))[1].all()


def test_negatives_are_known_to_be_absent() -> None:
    manifest = table(
        [("a.wav", 0.0, 4.0, ["x"]), ("a.wav", 4.0, 8.0, [])],
        negatives=pl.Series([[], ["x"]], dtype=TEXTS),  # type: ignore[arg-type]
        reviewed=[False, False],
    )
    found = recordings(manifest, "rows")
    _, known = Truth(found, ("x", "y"), np.array([10.0])).cells(0, edges(10))
    assert np.flatnonzero(known[:, 0]).tolist() == list(range(8))
    assert not known[:, 1].any()


def test_a_sub_call_is_a_call_and_a_call_leaves_its_sub_calls_open() -> None:
    assert parents("a/b/c") == ["a/b", "a"]
    assert with_parents(["a/b", "c"]) == ["a", "a/b", "c"]
    truth = truth_of(
        table([("a.wav", 1.0, 3.0, ["rumble/estrous"]), ("a.wav", 5.0, 7.0, ["rumble"])])
    )
    assert truth.classes == ("rumble", "rumble/estrous")
    target, known = truth.cells(0, edges(10))
    assert np.flatnonzero(target[:, 0]).tolist() == [1, 2, 5, 6]
    assert np.flatnonzero(target[:, 1]).tolist() == [1, 2]
    assert np.flatnonzero(~known[:, 1]).tolist() == [5, 6]
    assert known[:, 0].all()


def test_rows_of_a_recording_in_two_parts_are_refused() -> None:
    manifest = table(
        [("a.wav", 0.0, 1.0, ["x"]), ("a.wav", 2.0, 3.0, ["x"])], split=["train", "test"]
    )
    with pytest.raises(UserError, match=r"a\.wav has rows in split test and train"):
        recordings(manifest)


def test_recordings_carry_what_their_rows_say() -> None:
    manifest = table(
        [("a.wav", 0.0, 1.0, ["x"]), ("b.wav", 2.0, 3.0, ["y"]), ("a.wav", 4.0, 5.0, ["z"])],
        group=["g", "h", None],
    )
    found = recordings(manifest)
    assert found.paths == ["a.wav", "b.wav"]
    assert found.table["labels"].to_list() == [["x", "z"], ["y"]]
    assert found.table["group"].to_list() == ["g", "h"]
    assert found.table["end"].to_list() == [None, None]


def test_whole_files_say_nothing_of_when() -> None:
    assert is_weak(table([("a.wav", None, None, ["x"]), ("b.wav", None, None, [])]))
    assert not is_weak(table([("a.wav", 1.0, 2.0, ["x"]), ("b.wav", None, None, ["x"])]))


def test_balance_is_time_without_over_time_with() -> None:
    truth = truth_of(table([("a.wav", 0.0, 2.0, ["x"]), ("b.wav", 0.0, 2.5, ["y"])]))
    assert truth.balance() == pytest.approx([18 / 2, 17.5 / 2.5])


def test_rows_of_the_grid_hold_an_event_in_their_band() -> None:
    manifest = table(
        [("a.wav", 1.0, 2.0, ["x"]), ("a.wav", 3.0, 4.0, ["x"])],
        low_hz=[100.0, None], high_hz=[310.0, None],
    )  # fmt: skip
    bands = np.array([[0.0, 100.0], [100.0, 200.0], [200.0, 400.0]])
    target, known = truth_of(manifest).rows(0, edges(5), bands)
    assert target[1, :, 0].tolist() == [0, 1, 1]
    assert target.sum() == 2
    assert not known[3].any()
    assert known[[0, 1, 2, 4]].all()
