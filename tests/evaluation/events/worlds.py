"""Small sets of true and found events for tests."""

from __future__ import annotations

import numpy as np
import polars as pl

from sonoformer.evaluation.events.answers import EventAnswers

NAMES = ("roar", "rumble", "trumpet")


def table(rows: list[tuple[str, float, float, str, float]]) -> pl.DataFrame:
    names = ("path", "start", "end", "label", "score")
    kinds = (pl.String, pl.Float64, pl.Float64, pl.String, pl.Float64)
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")


def world(
    seed: int, recordings: int = 6, seconds: float = 120.0, error: float = 0.15, prefix: str = ""
) -> EventAnswers:
    """Calls of two classes (a third never is), found with small errors, some lost, some false."""
    rng = np.random.default_rng(seed)
    true, said = [], []
    for number in range(recordings):
        path = f"{prefix}{number}.wav"
        for name in NAMES[:2]:
            for start in np.arange(5, seconds - 15, 15) + rng.uniform(0, 4):
                end = start + rng.uniform(1, 4)
                true.append((path, start, end, name, 1.0))
                if rng.random() < 0.85:
                    first, last = rng.normal((start, end), error)
                    said.append((path, first, last, name, rng.uniform(0.4, 1)))
            for start in rng.uniform(0, seconds - 5, 2):
                said.append((path, start, start + 1.5, name, rng.uniform(0.1, 0.7)))
    lengths = {f"{prefix}{number}.wav": seconds for number in range(recordings)}
    return EventAnswers(table(true).drop("score"), table(said), lengths, NAMES)
