"""Files appear whole or not at all, and paths stay in their folder."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.files import atomic, inside, read_json, write_json, write_text


def fail(path: Path, error: BaseException) -> None:
    with atomic(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
def test_a_crash_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_seen_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.csv"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".csv"
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "cannot be written")]
)
def test_full_and_read_only_disks_are_sentences(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        fail(tmp_path / "a.txt", OSError(code, "no"))
    assert "a.txt" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in ("file/a.txt", "file/b/a.txt", "folder", "n" * 300):
        with pytest.raises(UserError, match="cannot be written"):
            write_text(tmp_path / path, "y")
    assert (tmp_path / "file").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_json_holds_no_nan_and_takes_numpy_and_paths(tmp_path: Path) -> None:
    value = {
        "nan": float("nan"),
        "list": [float("inf"), 1.5],
        "numpy": np.float32(0.5),
        "count": np.int64(3),
        "none": np.float32("nan"),
        "path": Path("a/b"),
        "word": "Amsel ü",
    }
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Amsel ü" in text
    assert read_json(tmp_path / "a.json") == {
        "nan": None,
        "list": [None, 1.5],
        "numpy": 0.5,
        "count": 3,
        "none": None,
        "path": "a/b",
        "word": "Amsel ü",
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_is_written_is_valid_json(tmp_path_factory: pytest.TempPathFactory, value) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_broken_json_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: cannot be read as JSON"):
        read_json(tmp_path / "a.json")


def test_missing_json_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "a/../..", "link/secret"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"absolute path|leaves the folder"):
        inside(root, path)


@pytest.mark.parametrize("path", ["a", "a/b.wav", "a/../b", ".", "..a", "a..b/c"])
def test_paths_in_the_folder_are_taken(tmp_path: Path, path: str) -> None:
    assert inside(tmp_path, path) == (tmp_path / path).resolve()


def test_a_neighbour_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="leaves the folder"):
        inside(tmp_path / "data", "../data2/a.wav")
    with pytest.raises(UserError, match="null"):
        inside(tmp_path, "a\0b")
