from __future__ import annotations

import os
from pathlib import Path

import pytest

from sonoformer.audio import AUDIO_SUFFIXES, find
from sonoformer.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.wav", "a.FLAC", "notes.txt", "phone.m4a", ".hidden.wav", "._a.wav", "deep/er/c.Mp3",
        "deep/d.ogg", ".git/e.wav", "folder.wav/f.wav", "[x].wav", "empty/readme.md",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


ALL = ["[x].wav", "a.FLAC", "b.wav", "deep/d.ogg", "deep/er/c.Mp3", "folder.wav/f.wav", "phone.m4a"]


def names(tree: Path, found: list[Path]) -> list[str]:
    return [str(path.relative_to(tree)) for path in found]


def test_a_folder_with_all_that_is_in_it(tree: Path) -> None:
    assert names(tree, find([tree])) == ALL
    assert find(["."]) == [Path(".", name) for name in ALL]
    assert find(tree) == find([str(tree)])


def test_paths_come_back_as_they_were_given(tree: Path) -> None:
    assert find(["deep"]) == [Path("deep/d.ogg"), Path("deep/er/c.Mp3")]
    assert find([tree / "deep"])[0].is_absolute()


def test_a_file_named_outright_is_taken(tree: Path) -> None:
    assert find(["notes.txt", ".hidden.wav", "[x].wav"]) == [
        Path(".hidden.wav"),
        Path("[x].wav"),
        Path("notes.txt"),
    ]


def test_patterns(tree: Path) -> None:
    assert find(["*.wav"]) == [Path("[x].wav"), Path("b.wav"), Path("folder.wav/f.wav")]
    assert names(tree, find([tree / "**" / "*.[Mmo]*"])) == [
        "deep/d.ogg",
        "deep/er/c.Mp3",
        "phone.m4a",
    ]
    assert find(["d*"]) == find(["deep"])
    assert find(["?.*"]) == [Path("a.FLAC"), Path("b.wav")]


def test_each_file_once_however_it_is_reached(tree: Path) -> None:
    (tree / "link.wav").symlink_to("b.wav")
    (tree / "alias").symlink_to("deep")
    once = find([tree, tree / "b.wav", "b.wav", "*", tree / "deep" / ".." / "deep"])
    real = sorted(os.path.realpath(path) for path in once)
    assert real == sorted(os.path.realpath(tree / name) for name in ALL)
    assert find([tree]) == find([tree, tree])
    # The first name in order stands for the file.
    assert names(tree, find([tree]))[2:4] == ["alias/d.ogg", "alias/er/c.Mp3"]


def test_loops_of_links_end(tree: Path) -> None:
    (tree / "deep" / "er" / "up").symlink_to(tree)
    (tree / "self").symlink_to("self")
    (tree / "here").symlink_to(".")
    assert names(tree, find([tree])) == ALL


def test_a_broken_link_is_listed_so_that_reading_it_says_so(tree: Path) -> None:
    (tree / "zz.wav").symlink_to("gone.wav")
    (tree / "loop.wav").symlink_to("loop.wav")
    assert set(names(tree, find([tree]))) == {*ALL, "zz.wav", "loop.wav"}
    assert find(["zz.wav"]) == [Path("zz.wav")]


def test_exclude(tree: Path) -> None:
    left = names(tree, find([tree], exclude=["deep", tree / "b.wav", "*.FLAC"]))
    assert left == ["[x].wav", "folder.wav/f.wav", "phone.m4a"]
    (tree / "alias").symlink_to("deep")
    assert names(tree, find([tree / "deep"], exclude=[tree / "alias" / "er"])) == ["deep/d.ogg"]
    assert find(["b.wav"], exclude=["empty"]) == [Path("b.wav")]
    assert find(["b.wav"], exclude=["."]) == []


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("gone", "gone: no such file or folder"),
        ("gone.wav", "gone.wav: no such file or folder"),
        ("empty", r"empty: the folder holds no sound file \(\.aac, \.ac3"),
        ("*.xyz", r"\*\.xyz: the pattern matches no sound file"),
        ("*.txt", r"\*\.txt: the pattern matches no sound file"),
    ],
)
def test_a_path_that_names_nothing(tree: Path, item: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find(["b.wav", item])
    if item != "empty":
        with pytest.raises(UserError, match=said):
            find(["b.wav"], exclude=[item])


def test_a_folder_that_cannot_be_opened(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return inner(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"deep: the folder cannot be opened \(Permission denied\)"):
        find([tree])


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".opus"} <= AUDIO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in AUDIO_SUFFIXES)


def test_nothing_asked_nothing_found() -> None:
    assert find([]) == []
