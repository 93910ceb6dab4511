"""Clips: rows and sound stay together, unusable rows are listed, windows cover every sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.manifest import Manifest
from sonoformer.data.views import Windows
from sonoformer.errors import UserError
from sonoformer.tasks.clips import open_clips


class Ramp:
    """Items whose samples are their own numbers."""

    sample_rate = 10

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        return f"{index}.wav"

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        stop = min(start + count, int(self.lengths[index]))
        return np.arange(start, stop, dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=6), samples=st.integers(1, 60))
def test_windows_cover_every_sample_and_pass_no_end(lengths: list[int], samples: int) -> None:
    windows = Windows(Ramp(lengths), samples)
    for item, length in enumerate(lengths):
        heard = [
            windows.read(w, 0, int(windows.lengths[w]))
            for w in np.flatnonzero(windows.rows == item)
        ]
        assert all(len(part) == min(length, samples) for part in heard)
        assert set(np.concatenate(heard)) == set(range(length))
        assert len(heard) == -(-length // samples)


def test_means_are_over_an_items_own_windows() -> None:
    windows = Windows(Ramp([5, 25]), 10)
    values = np.array([[1.0], [2], [3], [7]], np.float32)
    assert windows.means(values).tolist() == [[1], [4]]


@pytest.mark.parametrize("packed", [True, False])
def test_bad_rows_are_listed_and_left_out(
    make_set: Callable[..., Manifest], tmp_path: Path, packed: bool
) -> None:
    manifest = make_set(["low", "high", "mid", "low", "mid"])
    paths = manifest.paths
    Path(paths[1]).write_text("no sound")
    Path(paths[2]).unlink()
    manifest = manifest.with_columns(pl.Series("start", [0.0, 0.0, 0.0, 9.0, 0.1]))
    listed: list[tuple[str, str]] = []
    clips = open_clips(
        manifest,
        8000,
        tmp_path / "cache" if packed else None,
        problem=lambda path, reason: listed.append((path, reason)),
    )
    assert clips.manifest.paths == [paths[0], paths[4]]
    assert len(clips.source) == 2
    assert sorted(path for path, _ in listed) == paths[1:4]
    assert all(reason for _, reason in listed)
    assert clips.source.lengths.tolist() == [3200, 2400]
    assert clips.names == [paths[0], f"{paths[4]} [0.1-end s]"]
    part = clips.take(np.array([1]))
    assert part.manifest.paths == [paths[4]]
    assert len(part.source.read(0, 0, 9999)) == 2400


def test_nothing_readable_is_a_sentence(make_set: Callable[..., Manifest], tmp_path: Path) -> None:
    manifest = make_set(["low", "high"])
    for path in manifest.paths:
        Path(path).write_text("")
    with pytest.raises(UserError, match="none of its 2 clips can be read; the first is"):
        open_clips(manifest, 8000, tmp_path / "cache", problem=lambda *_: None)
