"""A pool of recordings as sound to learn from: its source, its parts, its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.cache import pack
from sonoformer.data.catalogue.entries import ENTRIES
from sonoformer.data.keys import key
from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import Pool, gather
from sonoformer.data.sources import ClipSource, FileSource, Stretch
from sonoformer.data.stored import is_stored, open_stored
from sonoformer.data.views import First, Pieces
from sonoformer.errors import UserError
from sonoformer.run import Run

Progress = Callable[[float, float], None]


def hear(
    sources: Sequence[str | Path | Manifest],
    rate: int,
    shortest: float,
    exclude: Sequence[Manifest],
    cache: str | Path | None,
    run: Run,
    progress: Progress | None,
) -> tuple[Pool, ClipSource, list[int]]:
    """The pool of a run's sources, its sound, and the pool's rows that can be read.

    Folders of packed sound (caches, shards) are read as they are; of anything else the sound is
    packed in `cache` if given, or read from its files.

    Raises:
        UserError: nothing usable, or packed sound beside recordings.
    """
    stored = [s for s in sources if not isinstance(s, Manifest) and is_stored(s)]
    if stored and len(stored) < len(sources):
        raise UserError(
            f"{stored[0]}: holds packed sound, which cannot be mixed with recordings that are not; "
            "pack those too"
        )
    if stored:
        pool, source = open_stored(stored, rate, exclude=exclude, min_seconds=shortest)
    else:
        pool = gather(sources, exclude=exclude, min_seconds=shortest, progress=progress)
    for error in pool.bad:
        run.problem(error.path, error.reason)
    run.log(f"pool: {pool.summary}")
    if stored:
        return pool, source, list(range(len(source)))
    return pool, *open_pool(pool, rate, cache, run, progress)


def open_pool(
    pool: Pool, rate: int, cache: str | Path | None, run: Run, progress: Progress | None
) -> tuple[ClipSource, list[int]]:
    """The sound of a pool's rows, packed in `cache` if given, and the rows that can be read.

    Raises:
        UserError: none can.
    """
    table = pool.manifest.table
    stretches = [
        Stretch(path, start, start + duration, "mix" if channel is None else channel)
        for path, start, duration, channel in table.select(
            "path", "start", "duration", "channel"
        ).iter_rows()
    ]
    if cache is None:
        return FileSource(stretches, rate), list(range(len(stretches)))
    packed = pack(stretches, cache, rate, progress=progress)
    for path, reason in packed.problems:
        run.problem(path, reason)
    if not packed.rows:
        raise UserError(f"{pool.manifest.source}: none of its recordings can be read")
    return packed.cache, packed.rows


def sources_of(pool: Pool, rows: list[int]) -> NDArray[np.int64]:
    """A number for each row's source: its group, or its folder."""
    table = pool.manifest.table[rows]
    names = [g or str(Path(p).parent) for g, p in table.select("group", "path").iter_rows()]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def chances(
    pool: Pool, rows: list[int], heard: NDArray[np.int64], balance: float, by_manifest: bool
) -> NDArray[np.float64] | None:
    """Chance of each clip to be drawn; None where all are equal.

    Args:
        pool: the recordings.
        rows: the pool's rows that can be read.
        heard: for each clip, the place in `rows` of the recording it is cut from.
        balance: how strongly sources are evened out, see `PretrainConfig`.
        by_manifest: draw recordings by the manifest's weights; clips of one share its weight.

    Raises:
        UserError: no weights in the manifest.
    """
    if by_manifest:
        column = pool.manifest.table[rows]["weight"]
        if column.is_null().all():
            raise UserError(
                f"weights: {pool.manifest.source} has no column weight; add one, or use --balance"
            )
        own = column.fill_null(1.0).to_numpy()
        return np.asarray(own[heard] / np.bincount(heard, minlength=len(rows))[heard])
    if balance == 0:
        return None
    groups = sources_of(pool, rows)[heard]
    counts = np.bincount(groups).astype(np.float64)
    return np.asarray(counts[groups] ** -balance)


def held_out(names: list[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which items are validated on: by a hash of the file, so that a file is on one side only.

    At least one is, where any were asked for; none where nothing would be left to learn from.
    """
    scores = np.array(
        [
            key(
                seed, "holdout", int.from_bytes(hashlib.blake2b(n.encode(), digest_size=7).digest())
            )
            for n in names
        ]
    )
    held: NDArray[np.bool_] = scores < share * 2**63
    if share and not held.any():
        held = scores == scores.min()
    return held if held.sum() < len(held) else np.zeros(len(held), bool)


def pieces(source: ClipSource, samples: int, crops: Literal["all", "first"]) -> Pieces | First:
    """What clips of `samples` are cut from: stretches of all the sound, or only the beginnings."""
    return First(source, samples) if crops == "first" else Pieces(source, samples)


def fingerprint(pool: Pool) -> str:
    """Of the pool's files, stretches and lengths, whatever folder they lie in."""
    rows = pool.manifest.table.select("path", "start", "duration").iter_rows()
    text = "\n".join(f"{Path(path).name}|{start:.3f}|{length:.3f}" for path, start, length in rows)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def sets_heard(sources: Sequence[str | Path | Manifest]) -> dict[str, object] | None:
    """What a checkpoint says of the sets it was trained on, so that a test on them can be marked.

    None where any sound came from elsewhere than the catalogue's sets.
    """
    names = [Path(s.source if isinstance(s, Manifest) else s).stem for s in sources]
    if not all(name in ENTRIES for name in names):
        return None
    return {"sets": names, "held_out": all(ENTRIES[name].hold for name in names)}
