"""Unpacking of archives that nobody has to trust: no path, no link and no bomb gets out."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from sonoformer.data.catalogue.cache import Progress, quiet, whole_folder
from sonoformer.errors import UserError
from sonoformer.files import inside

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
)
Keep = Callable[[str], bool]
_LINK_MODE = 0o120000


def unpack(
    archive: Path,
    target: Path,
    *,
    limit: int,
    keep: Keep = lambda name: True,
    progress: Progress = quiet,
) -> Path:
    """Unpack a zip or tar archive into the folder `target`, which appears only when it is whole.

    Args:
        archive: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file.
        target: the folder to make; nothing happens if it exists.
        limit: bytes that may be written.
        keep: which members to write, by name.
        progress: called with the archive's name and the files written.

    Raises:
        UserError: the archive is damaged, a member would leave the folder, is a link or a device,
            or more than `limit` bytes come out.
    """
    if target.exists():
        return target
    try:
        with whole_folder(target) as folder:
            if zipfile.is_zipfile(archive):
                _zip(archive, folder, _Budget(archive, limit), keep, progress)
            else:
                _tar(archive, folder, _Budget(archive, limit), keep, progress)
    except _DAMAGE as error:
        raise UserError(
            f"{archive}: damaged archive ({error}); delete it and fetch again"
        ) from error
    return target


class _Budget:
    """Counts what is written, whatever the headers promise."""

    def __init__(self, archive: Path, limit: int) -> None:
        self.archive, self.limit, self.left, self.files = archive, limit, limit, 0

    def copy(self, source: IO[bytes], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            while block := source.read(1 << 18):
                self.left -= len(block)
                if self.left < 0:
                    raise UserError(
                        f"{self.archive}: unpacks to more than {self.limit / 1e9:.2f} GB; refused"
                    )
                out.write(block)
        self.files += 1


def _zip(archive: Path, folder: Path, budget: _Budget, keep: Keep, progress: Progress) -> None:
    with zipfile.ZipFile(archive) as file:
        members = [m for m in file.infolist() if not m.is_dir() and keep(m.filename)]
        for member in members:
            if (member.external_attr >> 16) & 0o170000 == _LINK_MODE:
                raise UserError(f"{archive}: {member.filename} is a link; refused")
            target = _place(archive, folder, member.filename)
            with file.open(member) as source:
                budget.copy(source, target)
            progress(f"unpacking {archive.name}", budget.files, len(members))


def _tar(archive: Path, folder: Path, budget: _Budget, keep: Keep, progress: Progress) -> None:
    with tarfile.open(archive) as file:
        for member in file:
            if member.isdir() or not keep(member.name):
                continue
            if not member.isfile():
                raise UserError(f"{archive}: {member.name} is a link or a device; refused")
            target = _place(archive, folder, member.name)
            source = file.extractfile(member)
            if source is None:
                raise UserError(f"{archive}: {member.name} cannot be read")
            with source:
                budget.copy(source, target)
            progress(f"unpacking {archive.name}", budget.files, None)
        # A damaged header looks like the end to tarfile; only the rest of the stream, with its
        # checksum, tells.
        while file.fileobj is not None and file.fileobj.read(1 << 18):
            pass


def _place(archive: Path, folder: Path, name: str) -> Path:
    try:
        return inside(folder, name.replace("\\", "/"))
    except UserError as error:
        raise UserError(f"{archive}: {error}") from error


def free_space(folder: Path, needed: int) -> None:
    """Refuse a task that would fill the disk.

    Raises:
        UserError: fewer than `needed` bytes are free where `folder` lies.
    """
    here = folder
    while not here.exists():
        here = here.parent
    free = shutil.disk_usage(here).free
    if free < needed:
        raise UserError(
            f"{folder}: {needed / 1e9:.1f} GB are needed but {free / 1e9:.1f} GB are free; free "
            "some space or point SONOFORMER_CACHE to another disk"
        )
