"""Debian packages: fetched once by apt, unpacked once, with clear words when that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sonoformer.data.catalogue import debian
from sonoformer.data.catalogue.debian import package_folder
from sonoformer.errors import UserError


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that goes before the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_fetched_by_apt_and_unpacked_once(cache: Path, tools: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program(
        *(tools, "apt-get"),
        f'echo "$@" >> {log}; case "$3" in *=*) echo "E: Version not found" >&2; exit 100;; esac\n'
        "echo deb > gcin-voice_0.2%3a1_all.deb",
    )
    program(tools, "dpkg-deb", f'echo "$@" >> {log}; mkdir "$3/usr"; cp "$2" "$3/usr/file"')
    folder = package_folder("gcin-voice")
    assert folder == cache / "packages" / "gcin-voice_0.2-1"
    assert (folder / "usr" / "file").read_text() == "deb\n"
    assert debian.version_of(folder) == "0.2-1"
    first = log.read_text()
    assert "-q download gcin-voice=0~20170223-3" in first
    assert package_folder("gcin-voice") == folder
    assert log.read_text() == first


def test_what_apt_says_is_passed_on(cache: Path, tools: Path) -> None:
    program(tools, "apt-get", 'echo "E: Unable to locate package" >&2; exit 100')
    program(tools, "dpkg-deb", "exit 0")
    with pytest.raises(UserError, match=r"Unable to locate package.*apt-get update.*another set"):
        package_folder("freepats")


def test_without_apt_the_package_can_be_brought_by_hand(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"no apt-get.*packages\.debian\.org/bookworm/freepats"):
        package_folder("freepats")


def test_a_broken_package_leaves_nothing(cache: Path, tools: Path) -> None:
    (cache / "deb").mkdir(parents=True)
    (cache / "deb" / "freepats_1_all.deb").write_text("not a package")
    program(tools, "dpkg-deb", 'mkdir "$3/usr"; echo "not a Debian archive" >&2; exit 2')
    with pytest.raises(UserError, match=r"cannot be unpacked \(not a Debian archive\)"):
        package_folder("freepats")
    assert list((cache / "packages").iterdir()) == []


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_real_package_is_unpacked_without_root(cache: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr").mkdir()
    (tree / "usr" / "hello").write_text("hello")
    control = "Package: freepats\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(control)
    (cache / "deb").mkdir(parents=True)
    target = cache / "deb" / "freepats_1_all.deb"
    build = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(target)]
    subprocess.run(build, check=True, capture_output=True)
    assert (package_folder("freepats") / "usr" / "hello").read_text() == "hello"
