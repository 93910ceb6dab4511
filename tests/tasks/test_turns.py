"""Parts: test clips are never trained on, classes come from what can be learned, leaks refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import polars as pl
import pytest

from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.turns import check, divide, fingerprint, task_of, turns

LABELS = ["low", "mid", "high"] * 6


def parts(manifest: Manifest, config: FinetuneConfig) -> list[dict[str, set[int]]]:
    found = turns(divide(manifest, config, seed=0), config, seed=0)
    return [
        {name: set(getattr(turn, name).tolist()) for name in ("train", "validation", "test")}
        for turn in found
    ]


@pytest.mark.parametrize(
    ("options", "columns", "count"),
    [
        ({}, {}, 1),
        ({"validation": 0.2}, {"split": ["train"] * 12 + ["test"] * 6}, 1),
        ({"validation": 0.2}, {"fold": ["1", "2", "3"] * 6}, 3),
        ({"protocol": "folds", "folds": 2}, {}, 2),
        ({"protocol": "groups"}, {"group": ["x"] * 6 + ["y"] * 6 + ["z"] * 6}, 3),
        ({"only": ("2",)}, {"fold": ["1", "2", "3"] * 6}, 1),
    ],
)
def test_every_row_has_one_part_and_folds_test_every_row_once(
    make_set: Callable[..., Manifest], options: dict, columns: dict, count: int
) -> None:
    config = FinetuneConfig(**options)
    found = parts(make_set(LABELS, **columns), config)
    assert len(found) == count
    for part in found:
        assert sum(map(len, part.values())) == 18
        assert set.union(*part.values()) == set(range(18))
        assert part["train"]
        assert part["test"]
        assert bool(part["validation"]) == bool(config.validation)
    if count > 1:
        assert sorted(row for part in found for row in part["test"]) == list(range(18))


def test_a_table_with_splits_and_folds_goes_by_its_splits(
    make_set: Callable[..., Manifest],
) -> None:
    manifest = make_set(LABELS, split=["train"] * 9 + ["test"] * 9, fold=["1", "2", "3"] * 6)
    [part] = parts(manifest, FinetuneConfig())
    assert part["test"] == set(range(9, 18))
    assert len(parts(manifest, FinetuneConfig(protocol="folds"))) == 3


def test_a_label_that_only_the_test_has_is_no_class(make_set: Callable[..., Manifest]) -> None:
    split = ["test" if name == "high" else "train" for name in LABELS]
    manifest = make_set(LABELS, split=split)
    task = task_of(divide(manifest, FinetuneConfig(), 0), FinetuneConfig())
    assert task.classes == ("low", "mid")
    folded = make_set(LABELS, fold=split)
    assert len(task_of(divide(folded, FinetuneConfig(), 0), FinetuneConfig()).classes) == 3


def test_kind_of_task(make_set: Callable[..., Manifest]) -> None:
    config = FinetuneConfig(test=0.0)
    single = divide(make_set(LABELS), config, 0)
    assert task_of(single, config).single
    several = single.with_columns(pl.Series("labels", [["low", "mid"]] + [["high"]] * 17))
    assert not task_of(several, config).single


def test_one_class_alone_is_refused_unless_its_absence_is_known(
    make_set: Callable[..., Manifest],
) -> None:
    config = FinetuneConfig(test=0.0)
    manifest = divide(make_set(["low"] * 6), config, 0)
    with pytest.raises(UserError, match=r"all labels are 'low'.*nothing to tell apart"):
        task_of(manifest, config)
    absent = pl.Series("negatives", [[]] * 3 + [["low"]] * 3, dtype=pl.List(pl.String))
    empty = pl.Series("labels", [["low"]] * 3 + [[]] * 3, dtype=pl.List(pl.String))
    asked = task_of(manifest.with_columns(absent, empty), config)
    assert (asked.classes, asked.single) == (("low",), False)


def test_no_labels_are_refused(make_set: Callable[..., Manifest]) -> None:
    with pytest.raises(UserError, match="--label-column"):
        task_of(make_set([None] * 4), FinetuneConfig())


def test_leaks_are_refused_by_file_group_and_content(
    make_set: Callable[..., Manifest],
) -> None:
    split = (["train"] * 2 + ["test"]) * 6

    def checked(manifest: Manifest, **options: str) -> list[str]:
        config = FinetuneConfig(**options)  # type: ignore[arg-type]
        divided = divide(manifest, config, 0)
        said: list[str] = []
        check(divided, config, task_of(divided, config), said.append)
        return said

    labels = ["low", "mid", "low", "high", "high", "mid"] * 3
    assert checked(make_set(labels, split=split)) == []
    grouped = make_set(labels, split=split, group=["site"] * 18)
    with pytest.raises(UserError, match=r"same group in different parts.*--leaks allow"):
        checked(grouped)
    assert any("same group" in line for line in checked(grouped, leaks="allow"))
    manifest = make_set(labels, split=split)
    shutil.copy(manifest.paths[0], manifest.paths[2])
    with pytest.raises(UserError, match="same content"):
        checked(manifest)


def test_a_class_in_one_fold_only_is_said(make_set: Callable[..., Manifest]) -> None:
    labels = ["low", "mid", "low", "mid", "high", "high"] * 2
    manifest = make_set(labels, fold=["1", "1", "2", "2", "3", "3"] * 2)
    config = FinetuneConfig()
    said: list[str] = []
    check(manifest, config, task_of(manifest, config), said.append)
    assert any("only one fold holds high" in line for line in said)


def test_bad_times_are_refused_and_missing_files_are_not(
    make_set: Callable[..., Manifest],
) -> None:
    config = FinetuneConfig()
    manifest = divide(make_set(LABELS), config, 0)
    gone = manifest.with_columns(pl.Series("path", ["/nowhere.wav", *manifest.paths[1:]]))
    check(gone, config, task_of(gone, config), lambda _: None)
    early = manifest.with_columns(pl.Series("start", [-1.0] + [0.0] * 17))
    with pytest.raises(UserError, match="start before the beginning"):
        check(early, config, task_of(early, config), lambda _: None)


def test_fingerprint_follows_labels_and_parts_but_not_the_folder(
    make_set: Callable[..., Manifest],
) -> None:
    config = FinetuneConfig()
    manifest = divide(make_set(LABELS), config, 0)
    task = task_of(manifest, config)
    moved = pl.Series("path", [p.replace("/sounds/", "/elsewhere/") for p in manifest.paths])
    other = pl.Series("labels", [["mid"]] * 18)
    assert fingerprint(manifest.with_columns(moved), task) == fingerprint(manifest, task)
    assert fingerprint(manifest.with_columns(other), task) != fingerprint(manifest, task)
    assert fingerprint(divide(manifest, config, 1), task) == fingerprint(manifest, task)
