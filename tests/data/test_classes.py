"""Targets, what is known of them, and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.data.classes import (
    class_weights,
    read_classes,
    sampling_weights,
    targets,
    unknown_labels,
)
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError

CLASSES = ("a", "b", "c")


def manifest(labels: list, negatives: list | None = None, reviewed: list | None = None) -> Manifest:
    columns = {
        "path": [f"{i}.wav" for i in range(len(labels))],
        "labels": labels,
        "negatives": negatives or [[] for _ in labels],
        "reviewed": reviewed if reviewed is not None else [None] * len(labels),
    }
    lists = {"labels": pl.List(pl.String), "negatives": pl.List(pl.String)}
    return Manifest.of(pl.DataFrame(columns, schema_overrides={**lists, "reviewed": pl.Boolean}))


def test_single_label_rows_are_known_in_full() -> None:
    target, known = targets(manifest([["b"], ["a"], []], reviewed=[False, True, False]), CLASSES)
    assert target.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert known.tolist() == [[True] * 3, [True] * 3, [False] * 3]
    assert target.dtype == np.float32


def test_unlabelled_is_not_negative_outside_reviewed_stretches() -> None:
    table = manifest([["a"], ["a"], []], [["b"], ["b"], ["c"]], [False, True, False])
    target, known = targets(table, CLASSES, multi_label=True)
    assert target.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert known.tolist() == [[True, True, False], [True] * 3, [False, False, True]]


def test_labels_outside_the_list_are_named_or_set_aside() -> None:
    table = manifest([["a"], ["owl"], ["owl", "b"]])
    with pytest.raises(UserError, match=r"'owl' \(2 rows\)"):
        targets(table, CLASSES, multi_label=True)
    assert unknown_labels(table, CLASSES) == {"owl": 2}
    target, known = targets(table.take([0, 1]), CLASSES, strict=False)
    assert target.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert known.tolist() == [[True] * 3, [False] * 3]


def test_two_labels_in_a_single_label_task_name_the_row() -> None:
    with pytest.raises(UserError, match=r"row 2 has 2 labels.*multi-label"):
        targets(manifest([["a"], ["a", "b"]]), CLASSES)


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from(CLASSES)), st.sets(st.sampled_from(CLASSES)), st.booleans()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_rule_row_by_row(rows: list) -> None:
    table = manifest(
        [sorted(r[0]) for r in rows], [sorted(r[1]) for r in rows], [r[2] for r in rows]
    )
    target, known = targets(table, CLASSES, multi_label=True)
    for i, (present, absent, reviewed) in enumerate(rows):
        for j, name in enumerate(CLASSES):
            assert target[i, j] == (name in present)
            assert known[i, j] == (name in present or name in absent or reviewed)


def test_class_weights_balance_the_classes() -> None:
    target = np.repeat(np.eye(3, dtype=np.float32)[:2], [6, 2], axis=0)
    weights = class_weights(target, np.ones_like(target, bool))
    np.testing.assert_allclose(weights, [8 / (2 * 6), 8 / (2 * 2), 1.0])
    assert (target @ weights).mean() == pytest.approx(1.0)


def test_sampling_weights_follow_psla() -> None:
    target = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.float32)
    expected = [1000 / 3.01, 1000 / 3.01, 1000 / 3.01 + 1000 / 1.01, 1000 / 3.01]
    np.testing.assert_allclose(sampling_weights(target), expected, rtol=1e-6)


def test_class_lists_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("owl\n\nfrog\n")
    assert read_classes(path) == ("owl", "frog")
    path.write_text("owl\nowl\n")
    with pytest.raises(UserError, match="'owl' stands twice"):
        read_classes(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_classes(tmp_path / "none.txt")
