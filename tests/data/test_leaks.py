"""The same sound on both sides of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sonoformer.data.fingerprint import END, duplicates, fingerprint
from sonoformer.data.leaks import find_leaks
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


def blob(path: Path, seed: int, size: int = 3000) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return str(path)


def manifest(paths: list[str], split: list, **columns: list) -> Manifest:
    return Manifest.of(pl.DataFrame({"path": paths, "split": split, **columns}))


def test_clean_splits_have_no_leaks(tmp_path: Path) -> None:
    paths = [blob(tmp_path / f"{i}", i) for i in range(4)]
    table = manifest(paths, ["train", "train", "test", "test"], group=["a", "a", "b", None])
    assert find_leaks(table) == []


def test_same_file_group_and_content_are_three_findings(tmp_path: Path) -> None:
    a, b, c = (blob(tmp_path / name, i) for i, name in enumerate("abc"))
    copy = blob(tmp_path / "other" / "renamed", 1)
    link = tmp_path / "link"
    link.symlink_to(c)
    paths = [a, a, b, copy, c, str(link)]
    parts = ["train", "test", "train", "test", "train", "validation"]
    groups = ["1", "1", "2", "3", "4", "5"]
    found = {f.kind: f for f in find_leaks(manifest(paths, parts, group=groups))}
    assert {kind: f.rows for kind, f in found.items()} == {
        "same-file": (1, 2, 5, 6),
        "same-group": (1, 2),
        "same-content": (3, 4),
    }
    assert all(f.severity == "error" for f in found.values())
    assert "renamed" in found["same-content"].message


def test_copies_within_a_part_are_information(tmp_path: Path) -> None:
    paths = [blob(tmp_path / name, 7) for name in "ab"] + [blob(tmp_path / "c", 8)]
    (finding,) = find_leaks(manifest(paths, ["train", "train", "test"]))
    assert (finding.kind, finding.severity, finding.rows) == ("copies", "info", (1, 2))


def test_folds_are_checked_and_unassigned_rows_are_not(tmp_path: Path) -> None:
    a = blob(tmp_path / "a", 0)
    table = Manifest.of(pl.DataFrame({"path": [a, a, a], "fold": ["1", "2", None]}))
    (finding,) = find_leaks(table, by="fold")
    assert finding.rows == (1, 2)
    with pytest.raises(UserError, match="no split column"):
        find_leaks(table)


def test_a_change_in_the_middle_of_a_long_file_needs_full(tmp_path: Path) -> None:
    data = bytearray(np.random.default_rng(0).bytes(3 * END))
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(data)
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    table = manifest([str(first), str(second)], ["train", "test"])
    assert [f.kind for f in find_leaks(table)] == ["same-content"]
    assert find_leaks(table, full=True) == []


def test_fingerprints_see_every_end_and_size(tmp_path: Path) -> None:
    data = bytearray(np.random.default_rng(0).bytes(3 * END))
    path = tmp_path / "a"
    prints = set()
    for position in (None, 0, END - 1, len(data) - END, len(data) - 1):
        changed = bytearray(data)
        if position is not None:
            changed[position] ^= 1
        path = tmp_path / str(position)
        path.write_bytes(changed)
        prints.add(fingerprint(path))
    assert len(prints) == 5
    assert fingerprint(tmp_path / "none") is None


def test_a_replaced_file_is_hashed_again(tmp_path: Path) -> None:
    path = Path(blob(tmp_path / "a", 0, 100))
    before = fingerprint(path)
    blob(path, 1, 101)
    assert fingerprint(path) != before


def test_duplicates_point_to_the_first(tmp_path: Path) -> None:
    paths = [blob(tmp_path / n, s) for n, s in (("a", 0), ("b", 1), ("c", 0), ("d", 0))]
    assert duplicates(paths) == {paths[2]: paths[0], paths[3]: paths[0]}
