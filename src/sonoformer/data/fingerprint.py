"""Whether two files hold the same bytes, cheaply.

The fingerprint of a file is its size and a BLAKE2b hash of its first and last 64 KiB; `full` hashes
every byte. Two different recordings of the same size share neither header nor tail in practice; an
edit in the middle of a long file that keeps its size is seen only by `full`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

END = 64 * 1024
"""Bytes hashed at each end of a file."""

Progress = Callable[[int, int], None]
"""Called with (done, total) now and then; it should return quickly."""

_seen: dict[tuple[str, int, int, bool], str] = {}


def fingerprint(path: str | Path, *, full: bool = False) -> str | None:
    """Fingerprint of a file, or None if it cannot be read.

    Remembered within the process by path, modification time and size.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            key = (str(path), status.st_mtime_ns, status.st_size, full)
            if key not in _seen:
                digest = hashlib.blake2b(str(status.st_size).encode(), digest_size=16)
                if full or status.st_size <= 2 * END:
                    while block := file.read(1 << 20):
                        digest.update(block)
                else:
                    digest.update(file.read(END))
                    file.seek(-END, os.SEEK_END)
                    digest.update(file.read(END))
                _seen[key] = digest.hexdigest()
            return _seen[key]
    except OSError:
        return None


def fingerprints(
    paths: Iterable[str | Path],
    *,
    full: bool = False,
    workers: int = 8,
    progress: Progress | None = None,
) -> dict[str, str | None]:
    """Fingerprints of many files, read in threads; an unreadable file has None."""
    names = list(dict.fromkeys(str(p) for p in paths))
    found: dict[str, str | None] = {}
    with ThreadPoolExecutor(workers) as threads:
        results = threads.map(lambda name: fingerprint(name, full=full), names)
        for done, (name, print_) in enumerate(zip(names, results, strict=True), 1):
            found[name] = print_
            if progress is not None and (done % 64 == 0 or done == len(names)):
                progress(done, len(names))
    return found


def sizes(paths: Iterable[str | Path]) -> dict[str, int]:
    """Size in bytes of every file that exists."""
    found = {}
    for path in paths:
        try:
            found[str(path)] = Path(path).stat().st_size
        except OSError:
            continue
    return found


def duplicates(paths: Iterable[str | Path], *, full: bool = True) -> dict[str, str]:
    """File -> the first file in `paths` with the same content, for all but that first one.

    Only files whose size occurs twice are opened.
    """
    by_size: dict[int, list[str]] = {}
    for name, size in sizes(dict.fromkeys(str(p) for p in paths)).items():
        by_size.setdefault(size, []).append(name)
    suspects = [name for names in by_size.values() if len(names) > 1 for name in names]
    first: dict[str, str] = {}
    repeated = {}
    for name, print_ in fingerprints(suspects, full=full).items():
        if print_ is None:
            continue
        if print_ in first:
            repeated[name] = first[print_]
        else:
            first[print_] = name
    return repeated
