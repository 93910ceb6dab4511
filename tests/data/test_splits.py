"""Parts and folds that keep groups whole and classes even."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.manifest import Manifest
from sonoformer.data.splits import cross_validation, folds, group_index, leave_one_group_out, split
from sonoformer.errors import UserError


def manifest(
    groups: list, labels: list | None = None, paths: list[str] | None = None, **columns: list
) -> Manifest:
    names = labels if labels is not None else ["x"] * len(groups)
    frame = pl.DataFrame(
        {
            "path": paths or [f"{i}.wav" for i in range(len(groups))],
            "group": groups,
            "labels": [[name] for name in names],
            **columns,
        },
        schema_overrides={"group": pl.String},
    )
    return Manifest.of(frame)


def parts_of(table: pl.DataFrame, key: str, part: str) -> int:
    return int(table.group_by(key).agg(pl.col(part).n_unique())[part].max())


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.sampled_from("abcdefghij"), min_size=12, max_size=60),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_no_group_is_torn_and_every_row_has_a_part(groups: list, seed: int, data) -> None:
    labels = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(groups), max_size=len(groups)))
    table = manifest(groups, labels)
    if len(set(groups)) < 3:
        return
    done = split(table, seed=seed).table
    assert parts_of(done, "group", "split") == 1
    assert set(done["split"]) == {"train", "validation", "test"}
    assert done.equals(split(table, seed=seed).table)
    folded = folds(table, 3, seed=seed).table
    assert parts_of(folded, "group", "fold") == 1
    assert folded["fold"].n_unique() == 3


def test_no_fold_is_empty_where_one_group_has_nearly_all() -> None:
    table = manifest(["a"] * 10 + ["b", "c"], ["x"] * 11 + ["y"])
    for seed in range(5):
        assert folds(table, 3, seed=seed).table["fold"].n_unique() == 3


def test_single_rows_are_spread_evenly_over_classes() -> None:
    labels = ["rare"] * 10 + ["common"] * 90
    table = folds(manifest([None] * 100, labels), 5).table.explode("labels")
    counts = table.group_by("labels", "fold").agg(pl.len())
    assert set(counts.filter(pl.col("labels") == "rare")["len"]) == {2}
    assert set(counts.filter(pl.col("labels") == "common")["len"]) == {18}


def test_groups_of_like_size_are_spread_evenly_over_classes() -> None:
    groups = [f"g{i // 4}" for i in range(400)]
    labels = [f"c{(i // 4) % 5}" for i in range(400)]
    table = split(manifest(groups, labels), validation=0.2, test=0.2).table.explode("labels")
    shares = (
        table.group_by("labels", "split")
        .agg(pl.len())
        .pivot(on="split", values="len", index="labels")
    )
    assert set(shares["train"]) == {48}
    assert set(shares["test"]) == set(shares["validation"]) == {16}


def test_multi_label_rows_keep_rare_classes_in_every_fold() -> None:
    rng = np.random.default_rng(0)
    labels = [["common"] + (["rare"] if i % 10 == 0 else []) for i in rng.permutation(200)]
    frame = pl.DataFrame({"path": [f"{i}.wav" for i in range(200)], "labels": labels})
    table = folds(Manifest.of(frame), 4).table.explode("labels")
    rare = table.filter(pl.col("labels") == "rare")["fold"].value_counts()["count"]
    assert sorted(rare) == [5, 5, 5, 5]


def test_another_seed_gives_another_split() -> None:
    table = manifest([None] * 50)
    first, second = split(table, seed=0).table["split"], split(table, seed=1).table["split"]
    assert not first.equals(second)


def test_stretches_of_a_file_stay_together_even_across_groups() -> None:
    table = manifest(["a", "b", "b", "c", None], paths=["1", "1", "2", "3", "3"])
    assert group_index(table).tolist() == [0, 0, 0, 1, 1]


def test_given_splits_are_kept_and_validation_is_taken_from_train() -> None:
    groups = [f"g{i // 5}" for i in range(50)]
    given_split = ["test" if i >= 40 else "train" for i in range(50)]
    done = split(manifest(groups, split=given_split), validation=0.25).table
    assert (done["split"] == "test").to_list() == [part == "test" for part in given_split]
    assert (done["split"] == "validation").sum() == 10
    assert parts_of(done, "group", "split") == 1
    full = ["train", "validation", "test"]
    assert split(manifest(["a", "b", "c"], split=full)).table["split"].to_list() == full


def test_given_folds_are_kept() -> None:
    table = manifest(["a", "b"], fold=["one", "two"])
    assert folds(table, 5).table["fold"].to_list() == ["one", "two"]
    with pytest.raises(UserError, match="empty cells"):
        folds(manifest(["a", "b"], fold=["one", None]), 2)


def test_leave_one_group_out() -> None:
    table = leave_one_group_out(manifest(["ann", "bob", "ann", "cy"]))
    turns = cross_validation(table)
    assert [turn.name for turn in turns] == ["ann", "bob", "cy"]
    assert [len(turn.test) for turn in turns] == [2, 1, 1]
    with pytest.raises(UserError, match="--group-column"):
        leave_one_group_out(manifest(["a", None]))
    with pytest.raises(UserError, match="only one group"):
        leave_one_group_out(manifest(["a", "a"]))


def test_cross_validation_never_touches_the_test_fold() -> None:
    groups = [f"g{i // 3}" for i in range(90)]
    table = folds(manifest(groups), 5)
    for turn in cross_validation(table, validation=0.2, seed=3):
        assert turn.validation is not None
        sets = [set(part.values("group")) for part in (turn.train, turn.validation, turn.test)]
        assert len(set.union(*sets)) == sum(map(len, sets))
        assert sum(map(len, (turn.train, turn.validation, turn.test))) == 90
    assert [turn.name for turn in cross_validation(table, only=["2"])] == ["2"]
    with pytest.raises(UserError, match="'9' is none of 1, 2, 3, 4, 5"):
        cross_validation(table, only=["9"])


def test_impossible_wishes_are_sentences() -> None:
    with pytest.raises(UserError, match="2 groups cannot fill 3 parts"):
        split(manifest(["a", "a", "b"]))
    with pytest.raises(UserError, match="from 2 to the number of groups, 2"):
        folds(manifest(["a", "b"]), 3)
    with pytest.raises(UserError, match="shares from 0"):
        split(manifest(["a", "b"]), validation=0.5, test=0.5)
    with pytest.raises(UserError, match="one group"):
        split(manifest(["a", "a", "b"], split=["train", "train", "test"]))
