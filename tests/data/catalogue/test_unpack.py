"""Archives: what is written, and what is refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from sonoformer.data.catalogue.unpack import free_space, unpack
from sonoformer.errors import UserError


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def make_tar(
    path: Path, members: dict[str, bytes], link: tuple[str, str, bytes] | None = None
) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link[0])
            info.linkname, info.type = link[1], link[2]
            file.addfile(info)
    return path


MAKERS = {"a.zip": make_zip, "a.tar.gz": make_tar}


@pytest.mark.parametrize("name", MAKERS)
def test_wanted_members_are_written(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, {"x/a.wav": b"sound", "x/b.txt": b"text"})
    calls: list[int] = []
    out = unpack(
        archive,
        tmp_path / "out",
        limit=100,
        keep=lambda member: member.endswith(".wav"),
        progress=lambda _, done, __: calls.append(done),
    )
    assert [str(p.relative_to(out)) for p in out.rglob("*.*")] == ["x/a.wav"]
    assert (out / "x/a.wav").read_bytes() == b"sound"
    assert calls == [1]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("member", ["../evil", "/etc/evil", "x/../../evil", "..\\evil"])
def test_no_member_leaves_the_folder(tmp_path: Path, name: str, member: str) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    archive = MAKERS[name](folder / name, {"good": b"1", member: b"2"})
    with pytest.raises(UserError, match=r"leaves the folder|absolute path"):
        unpack(archive, folder / "out", limit=100)
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["deep", name])


@pytest.mark.parametrize("name", MAKERS)
def test_a_bomb_is_stopped(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, {"zeros": bytes(5_000_000)})
    assert archive.stat().st_size < 50_000
    with pytest.raises(UserError, match=r"more than 0\.00 GB; refused"):
        unpack(archive, tmp_path / "out", limit=1_000_000)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)):
        archive = make_tar(tmp_path / f"{number}.tar.gz", {}, ("x", "/etc/passwd", kind))
        with pytest.raises(UserError, match="x is a link or a device"):
            unpack(archive, tmp_path / "out", limit=100)
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as file:
        info = zipfile.ZipInfo("x")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="x is a link"):
        unpack(tmp_path / "l.zip", tmp_path / "out", limit=100)


@pytest.mark.parametrize("name", MAKERS)
def test_a_damaged_archive_is_a_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, {f"{i}": bytes([i]) * 5000 for i in range(40)})
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    archive.write_bytes(data)
    with pytest.raises(UserError, match="damaged archive"):
        unpack(archive, tmp_path / "out", limit=10**7)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "none.zip", tmp_path / "out", limit=1) == tmp_path / "out"


def test_a_full_disk_is_foreseen(tmp_path: Path) -> None:
    free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(UserError, match="SONOFORMER_CACHE"):
        free_space(tmp_path, 10**18)
