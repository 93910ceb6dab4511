"""A pool of recordings as sound to learn from: its source, its parts, its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.cache import pack
from sonoformer.data.keys import key
from sonoformer.data.pool import Pool
from sonoformer.data.sources import ClipSource, FileSource, Stretch
from sonoformer.data.views import First, Pieces
from sonoformer.errors import UserError
from sonoformer.run import Run

Progress = Callable[[float, float], None]


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


def chances(groups: NDArray[np.int64], balance: float) -> NDArray[np.float64] | None:
    """Chance of each clip, of the given sources, to be drawn; None where all are equal."""
    if balance == 0:
        return None
    counts = np.bincount(groups).astype(np.float64)
    weights: NDArray[np.float64] = counts[groups] ** -balance
    return weights


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
