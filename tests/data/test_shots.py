"""A few clips of each class."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.manifest import Manifest
from sonoformer.data.shots import few_shots
from sonoformer.errors import UserError


def manifest(labels: list[list[str]], groups: list[str] | None = None, **columns: list) -> Manifest:
    rows = {"path": [f"{i}.wav" for i in range(len(labels))], "labels": labels, "group": groups}
    table = pl.DataFrame(
        {**{k: v for k, v in rows.items() if v is not None}, **columns},
        schema_overrides={"labels": pl.List(pl.String)},
    )
    return Manifest.of(table)


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    groups=st.data(),
    seed=st.integers(0, 5),
)
def test_more_shots_hold_fewer(labels: list[str], groups: st.DataObject, seed: int) -> None:
    of = groups.draw(st.lists(st.sampled_from("xyz"), min_size=len(labels), max_size=len(labels)))
    table = manifest([[name] for name in labels], of)
    before: set[int] = set()
    for shots in (1, 2, 4, 8, 16, 64):
        found = few_shots(table, shots, seed)
        held = [labels[row] for row in found.rows]
        there = {name: labels.count(name) for name in set(labels)}
        assert {n: held.count(n) for n in there} == {n: min(shots, c) for n, c in there.items()}
        assert found.short == {n: c for n, c in sorted(there.items()) if c < shots}
        assert before <= set(found.rows)
        before = set(found.rows.tolist())
        for name in there:
            here = {of[i] for i, label in enumerate(labels) if label == name}
            met = [of[row] for row in found.rows if labels[row] == name]
            assert len(set(met)) == min(len(met), len(here))
    assert len(before) == len(labels)


def test_seeds_draw_others() -> None:
    table = manifest([["a"], ["b"]] * 50)
    draws = {tuple(few_shots(table, 4, seed).rows) for seed in range(8)}
    assert len(draws) == 8


def test_a_class_is_drawn_alike_whatever_else_there_is() -> None:
    table = manifest([["a"], ["b"], ["c"]] * 10)
    alone = manifest([["a"], ["x"], ["y"]] * 10)
    drawn = [r for r in few_shots(table, 3).rows if r % 3 == 0]
    assert drawn == [r for r in few_shots(alone, 3).rows if r % 3 == 0]


def test_clips_of_several_classes_and_of_none() -> None:
    labels = [["a", "b"], ["a"], ["b"], [], [], []]
    reviewed = [True, True, True, True, True, False]
    found = few_shots(manifest(labels, reviewed=reviewed), 1)
    assert {3, 4} & set(found.rows)
    assert 5 not in found.rows
    assert {name for row in found.rows for name in labels[row]} == {"a", "b"}
    everything = few_shots(manifest(labels, reviewed=reviewed), 9)
    assert everything.rows.tolist() == [0, 1, 2, 3, 4]
    assert everything.short == {"a": 2, "b": 2}


def test_none_is_refused() -> None:
    with pytest.raises(UserError, match="shots: must be at least 1"):
        few_shots(manifest([["a"]]), 0)
