"""Sets by name: `local` says whether one is here, `fetch` gets it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sonoformer.data.catalogue.cache import Progress, cache_folder, quiet
from sonoformer.data.catalogue.debian import package_folder
from sonoformer.data.catalogue.download import download
from sonoformer.data.catalogue.entries import ENTRIES, Entry
from sonoformer.data.catalogue.pools import pool_table
from sonoformer.data.catalogue.unpack import free_space, unpack
from sonoformer.data.checks import missing
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError, nearest


def entry(name: str) -> Entry:
    """The set called `name`.

    Raises:
        UserError: there is none; the nearest name is suggested.
    """
    if name not in ENTRIES:
        raise UserError(
            f"{name}: no such set; there are {', '.join(ENTRIES)}.{nearest(name, ENTRIES)}"
        )
    return ENTRIES[name]


def manifest_path(name: str) -> Path:
    """Where the manifest of a set lies once it is fetched."""
    return cache_folder() / f"{entry(name).name}.csv"


def local(name: str) -> Path | None:
    """The manifest of a set that is in the cache, or None.

    A set of which any file is gone does not count as being here.
    """
    path = manifest_path(name)
    if not path.is_file():
        return None
    manifest = Manifest.read(path, separator=";")
    return None if missing(manifest.table["path"]).any() else path


def fetch(name: str, progress: Progress = quiet) -> Path:
    """Get a set into the cache, unless it is there, and return the path of its manifest.

    An interrupted download continues where it stopped.

    Args:
        name: one of `ENTRIES`.
        progress: called with (what is being done, units done, units in all or None).

    Raises:
        UserError: the source cannot be reached or is not what it should be; the sentence names
            sets that are already here or come from elsewhere.
    """
    here = local(name)
    if here is not None:
        return here
    wanted = entry(name)
    try:
        table = _from_archive(wanted, progress) if wanted.archive else _packaged(wanted, progress)
    except UserError as error:
        raise UserError(f"{error}. {_alternatives(wanted)}") from error
    except OSError as error:
        raise UserError(
            f"{error.filename or cache_folder()}: {error.strerror or error}; point "
            "SONOFORMER_CACHE to a folder that can be written"
        ) from error
    path = manifest_path(name)
    Manifest.of(table, str(path)).save(path)
    return path


def _from_archive(wanted: Entry, progress: Progress) -> pl.DataFrame:
    if wanted.archive is None or wanted.build is None:
        raise UserError(f"{wanted.name}: no archive")
    shared = wanted.audio_from or wanted.name
    folder = cache_folder() / "sets" / shared
    if not folder.exists():
        ending = ".tar.gz" if wanted.archive.url.endswith(".tar.gz") else ".zip"
        target = cache_folder() / "archives" / f"{shared}{ending}"
        if not target.exists():
            free_space(target.parent, 3_000_000 * max(1, wanted.megabytes))
            download(wanted.archive, target, progress)
        unpack(
            target,
            folder,
            limit=wanted.archive.unpacked_limit,
            keep=lambda name: not wanted.keep or name.endswith(wanted.keep),
            progress=progress,
        )
        target.unlink()
    return wanted.build(folder)  # type: ignore[arg-type]


def _packaged(wanted: Entry, progress: Progress) -> pl.DataFrame:
    if wanted.build is None:
        return pool_table(wanted.packages, progress, hold=wanted.hold)
    folders = [package_folder(package, progress) for package in wanted.packages]
    progress(f"reading {wanted.name}", 0, None)
    return wanted.build(folders)  # type: ignore[arg-type]


def _alternatives(wanted: Entry) -> str:
    here = [name for name in ENTRIES if name != wanted.name and local(name) is not None]
    if here:
        return f"Sets that are already here: {', '.join(here)}"
    other = [e.name for e in ENTRIES.values() if (e.archive is None) != (wanted.archive is None)]
    return f"Sets from other sources: {', '.join(other)}"
