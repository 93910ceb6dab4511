"""Downloads: resumed, restarted where they must be, and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sonoformer.data.catalogue.download import Archive, download
from sonoformer.errors import UserError

BODY = bytes(range(256)) * 4000
GOOD = hashlib.sha256(BODY).hexdigest()


def fetch(archive: Archive, target: Path, progress=lambda *_: None) -> Path:
    return download(archive, target, progress, pause=0.001)


def test_a_download_that_breaks_off_continues_where_it_stopped(site, tmp_path: Path) -> None:
    site.content["a.zip"] = BODY
    site.break_after = [300_000, 200_000]
    target = tmp_path / "archives" / "a.zip"
    seen: list[tuple[int, int | None]] = []
    archive = Archive(site.url("a.zip"), GOOD, len(BODY))
    fetch(archive, target, lambda _, done, total: seen.append((done, total)))
    assert target.read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-", "bytes=500000-"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert sorted(p.name for p in target.parent.iterdir()) == ["a.zip"]


def test_what_came_is_kept_for_the_next_call(site, tmp_path: Path) -> None:
    site.content["a.zip"] = BODY
    site.break_after = [100_000] * 4
    archive, target = Archive(site.url("a.zip"), GOOD), tmp_path / "a.zip"
    with pytest.raises(UserError, match=r"cannot be reached.*0\.4 MB are kept, run again"):
        fetch(archive, target)
    assert not target.exists()
    fetch(archive, target)
    assert target.read_bytes() == BODY
    assert site.asked[-1] == "bytes=400000-"


def test_changed_content_starts_again(site, tmp_path: Path) -> None:
    site.content["a.zip"] = b"old" * 100_000
    site.break_after = [50_000] * 4
    archive, target = Archive(site.url("a.zip")), tmp_path / "a.zip"
    with pytest.raises(UserError, match="run again"):
        fetch(archive, target)
    site.content["a.zip"], site.etag = BODY, '"two"'
    fetch(archive, target)
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_starts_again(site, tmp_path: Path) -> None:
    site.content["a.zip"], site.ranges, site.break_after = BODY, False, [70_000]
    fetch(Archive(site.url("a.zip"), GOOD), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_part_that_is_too_long_starts_again(site, tmp_path: Path) -> None:
    site.content["a.zip"] = BODY
    (tmp_path / "a.zip.part").write_bytes(BODY + b"more")
    (tmp_path / "a.zip.part.tag").write_text(site.etag)
    fetch(Archive(site.url("a.zip"), GOOD), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_wrong_content_is_deleted_and_said(site, tmp_path: Path) -> None:
    site.content["a.zip"] = BODY
    for archive, message in (
        (Archive(site.url("a.zip"), "0" * 64), r"SHA-256 is .* not the one stated, 0000"),
        (Archive(site.url("a.zip"), GOOD, 17), rf"{len(BODY)} bytes came, not 17"),
    ):
        with pytest.raises(UserError, match=message):
            fetch(archive, tmp_path / "a.zip")
        assert list(tmp_path.iterdir()) == []


def test_an_unknown_hash_is_noted_and_then_held_to(site, tmp_path: Path) -> None:
    site.content["a.zip"] = BODY
    archive, target = Archive(site.url("a.zip")), tmp_path / "a.zip"
    said: list[str] = []
    fetch(archive, target, lambda what, *_: said.append(what))
    assert f"SHA-256 {GOOD} noted" in said[-1]
    assert json.loads((tmp_path / "known.json").read_text())[archive.url]["sha256"] == GOOD
    target.unlink()
    fetch(archive, target)
    target.unlink()
    site.content["a.zip"] = BODY[:-1]
    with pytest.raises(UserError, match=r"not the one of the first download.*known\.json"):
        fetch(archive, target)


def test_passing_trouble_is_waited_out_but_refusal_is_not(site, tmp_path: Path) -> None:
    site.content["a.zip"], site.status = BODY, [503, 429]
    fetch(Archive(site.url("a.zip"), GOOD), tmp_path / "a.zip")
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(Archive(site.url("none.zip")), tmp_path / "none.zip")
    assert len(site.asked) == 4


def test_no_network_and_other_addresses_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/x: cannot be reached \(.*refused"):
        fetch(Archive("http://127.0.0.1:9/x"), tmp_path / "x")
    with pytest.raises(UserError, match="only http and https"):
        fetch(Archive("file:///etc/passwd"), tmp_path / "x")
