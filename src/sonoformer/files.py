"""Writing that cannot leave half a file behind, and paths that stay in their folder."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sonoformer.errors import UserError, brief

_UNWRITABLE = (
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
"""Errors of a path that another --out mends."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it goes.

    The temporary name keeps the suffix, because writers choose their format by it.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent
            )
            os.close(handle)
            temporary = Path(name)
            yield temporary
            _flush(temporary)
            # mkstemp makes private files; what a command leaves behind follows the user's umask.
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, path)
            temporary = None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what a user can mend while `path` is written into a sentence.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{path}: the disk is full; free some space or choose another --out, then run again"
            ) from error
        if error.errno in _UNWRITABLE:
            raise UserError(
                f"{path}: cannot be written ({os.strerror(error.errno)}); choose another --out"
            ) from error
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity become null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        # ValueError: no text, no JSON, or a number of thousands of digits.
        raise UserError(f"{path}: cannot be read as JSON ({brief(str(error))})") from error


def inside(root: str | Path, relative: str | Path) -> Path:
    """`root / relative`, refused when it is absolute or climbs out of `root`.

    Raises:
        UserError: the path leaves the folder.
    """
    base = Path(root).resolve()
    if "\0" in str(relative):
        raise UserError(f"{str(relative)!r}: a path cannot hold a null character")
    if Path(relative).is_absolute():
        raise UserError(f"{relative}: absolute path; give it relative to {root}")
    target = (base / relative).resolve()
    if target != base and base not in target.parents:
        raise UserError(f"{relative}: leaves the folder {root}; paths must stay inside it")
    return target


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return _finite(value.item())
    return value
