"""Downloads that can be interrupted: resumed where they stopped, checked, then put in place.

Where the publisher states no checksum, the hash of the first download is written down and later
downloads of the same address must match it (trust on first use).
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

from sonoformer.data.catalogue.cache import Progress, quiet
from sonoformer.errors import UserError
from sonoformer.files import read_json, write_json

BLOCK = 1 << 18
ATTEMPTS = 4
TIMEOUT = 30.0
_AGENT = "sonoformer"


@dataclass(frozen=True)
class Archive:
    """A public archive."""

    url: str
    sha256: str | None = None
    """None where the publisher states none"""
    size: int | None = None
    """bytes, where known exactly"""
    unpacked_limit: int = 8 << 30
    """bytes that unpacking may write at most"""


def download(
    archive: Archive, target: Path, progress: Progress = quiet, *, pause: float = 2.0
) -> Path:
    """Download to `target`, continuing a part that an earlier call left behind.

    Args:
        archive: address and what is known of the content.
        target: the file to make; meanwhile `target.part` grows beside it.
        progress: called with the address's last part, bytes done and bytes in all.
        pause: seconds before the second attempt; it doubles with each further one.

    Raises:
        UserError: the address cannot be reached, the connection broke too often (what came is kept
            for the next call), or the content is not what it should be (it is deleted).
    """
    if not archive.url.startswith(("http://", "https://")):
        raise UserError(f"{archive.url}: only http and https addresses can be fetched")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    reason = _persist(archive, part, target.name, progress, pause)
    if reason is not None:
        kept = part.stat().st_size if part.exists() else 0
        rest = f"; {kept / 1e6:.1f} MB are kept, run again to continue" if kept else ""
        raise UserError(f"{archive.url}: cannot be reached ({reason}){rest}")
    _verify(archive, part, target, progress)
    part.replace(target)
    _tag(part).unlink(missing_ok=True)
    return target


def _persist(
    archive: Archive, part: Path, name: str, progress: Progress, pause: float
) -> str | None:
    """Several connections if need be; None when all is there, else why the last one failed."""
    reason = None
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(pause * 2 ** (attempt - 1))
        try:
            _transfer(archive, part, name, progress)
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429, 500, 502, 503, 504):
                raise UserError(f"{archive.url}: the server answers {error.code}") from error
            reason = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise UserError(f"{part}: the disk is full; free some space, run again") from error
            cause = getattr(error, "reason", error)
            reason = str(cause) or type(cause).__name__
            if isinstance(cause, socket.gaierror | ConnectionRefusedError):
                break  # nobody is there: waiting will not help
        else:
            return None
    return reason


def _transfer(archive: Archive, part: Path, name: str, progress: Progress) -> None:
    """One connection: append to `part` what it lacks.

    Raises:
        OSError, HTTPException: the connection failed or ended early; `part` holds what came.
    """
    have = part.stat().st_size if part.exists() else 0
    tag = _tag(part).read_text() if _tag(part).exists() else ""
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if have and tag:
        # If-Range: the rest of the same content, or all of the new content.
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    request = urllib.request.Request(archive.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            # The part is as long as the content or longer; only a fresh start can tell.
            part.unlink()
            _tag(part).unlink(missing_ok=True)
            raise ConnectionError("the part that was kept does not fit") from error
        raise
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise UserError(f"{archive.url}: the server sends another part than it was asked for")
        length = response.headers.get("Content-Length")
        done = have if resumed else 0
        total = done + int(length) if length else archive.size
        _tag(part).write_text(_validator(response.headers))
        with part.open("ab" if resumed else "wb") as out:
            while block := response.read(BLOCK):
                out.write(block)
                done += len(block)
                progress(name, done, total)
        if length and done < (total or 0):
            raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _validator(headers: Any) -> str:
    """What names this very content for If-Range: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _verify(archive: Archive, part: Path, target: Path, progress: Progress) -> None:
    size = part.stat().st_size
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    ledger = target.parent / "known.json"
    known = read_json(ledger) if ledger.exists() else {}
    wanted = archive.sha256 or known.get(archive.url, {}).get("sha256")
    wrong = None
    if archive.size is not None and size != archive.size:
        wrong = f"{size} bytes came, not {archive.size}"
    elif wanted is not None and found != wanted:
        stated = "stated" if archive.sha256 else "of the first download"
        wrong = f"its SHA-256 is {found[:16]}..., not the one {stated}, {wanted[:16]}..."
    if wrong:
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        hint = "" if archive.sha256 else f"; if its publisher changed it, drop it from {ledger}"
        raise UserError(
            f"{archive.url}: the download is not what it should be ({wrong}) and was deleted{hint}"
        )
    if archive.sha256 is None and archive.url not in known:
        day = datetime.now(UTC).date().isoformat()
        write_json(ledger, {**known, archive.url: {"sha256": found, "size": size, "first": day}})
        progress(
            f"{target.name}: the publisher states no checksum; SHA-256 {found} noted as known "
            "from this first download",
            *(size, size),
        )
