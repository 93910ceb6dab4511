"""Packing that is interrupted loses nothing that was entered, and nothing else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from sonoformer.data import cache_writer
from sonoformer.data.cache import PackedCache, pack
from sonoformer.data.cache_writer import Parts, to_int16
from sonoformer.data.sources import Stretch
from sonoformer.errors import UserError

RATE = 8000


def make_all(folder: Path, count: int) -> list[Stretch]:
    stretches = []
    for i in range(count):
        samples = np.random.default_rng(i).integers(-(2**15), 2**15, 4000).astype(np.int16)
        soundfile.write(folder / f"{i:03d}.wav", samples, RATE)
        stretches.append(Stretch(str(folder / f"{i:03d}.wav"), 0.0, float("inf")))
    return stretches


def check(cache: PackedCache) -> None:
    for item in range(len(cache)):
        expected, _ = soundfile.read(cache.name(item), dtype="int16")
        assert np.array_equal(cache.read(item, 0, 10**6), expected)


class FullDisk(Parts):
    """A disk that is full after a few stretches, in the middle of one."""

    written = 0

    def write(self, part: int, offset: int, samples: np.ndarray) -> None:
        self.written += 1
        if self.written > 5:
            super().write(part, offset, samples[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(part, offset, samples)


def test_a_full_disk_is_a_sentence_and_keeps_what_was_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretches = make_all(tmp_path, 12)
    pack(stretches[:2], tmp_path / "c", RATE)
    with monkeypatch.context() as patch:
        patch.setattr(cache_writer, "Parts", FullDisk)
        with pytest.raises(UserError, match="the disk is full; free some space and run again"):
            pack(stretches, tmp_path / "c", RATE, workers=1)
    cache = PackedCache(tmp_path / "c")
    assert len(cache) == 7
    check(cache)
    # What the unfinished stretch left is gone, so that its place is free.
    assert (tmp_path / "c/audio-00000.i16").stat().st_size == 2 * cache.lengths.sum()
    packed = pack(stretches, tmp_path / "c", RATE)
    assert packed.added == 5
    check(packed.cache)


def test_a_full_disk_at_the_start_of_a_part_keeps_the_part_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretches = make_all(tmp_path, 8)
    pack(stretches[:3], tmp_path / "c", RATE)
    monkeypatch.setattr(cache_writer, "PART_BYTES", 4 * 8000)
    with monkeypatch.context() as patch:
        patch.setattr(FullDisk, "written", 4)
        patch.setattr(cache_writer, "Parts", FullDisk)
        with pytest.raises(UserError, match="full"):
            pack(stretches, tmp_path / "c", RATE, workers=1)
    assert len(PackedCache(tmp_path / "c")) == 4
    check(PackedCache(tmp_path / "c"))
    check(pack(stretches, tmp_path / "c", RATE).cache)


def test_ctrl_c_enters_what_was_finished(tmp_path: Path) -> None:
    stretches = make_all(tmp_path, 64)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(stretches, tmp_path / "c", RATE, progress=interrupt)
    cache = PackedCache(tmp_path / "c")
    assert 16 <= len(cache) < 64
    check(cache)
    assert pack(stretches, tmp_path / "c", RATE).added == 64 - len(cache)


_KILLED = """
import sys
from sonoformer.data import cache_writer
from sonoformer.data.cache import pack
from sonoformer.data.sources import Stretch
cache_writer._SAVE_EVERY = 0.02
folder, *paths = sys.argv[1:]
pack([Stretch(p, 0.0, float("inf")) for p in paths], folder, 8000, workers=2,
     progress=lambda done, total: print(done, flush=True))
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    stretches = make_all(tmp_path, 300)
    paths = [stretch.path for stretch in stretches]
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path / "c"), *paths], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    while int(child.stdout.readline()) < 100:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = len(PackedCache(tmp_path / "c"))
    assert 0 < before < 300
    check(PackedCache(tmp_path / "c"))
    packed = pack(stretches, tmp_path / "c", RATE)
    assert packed.added == 300 - before
    assert packed.rows == list(range(300))
    check(packed.cache)
    assert [p.name for p in (tmp_path / "c").iterdir() if p.suffix == ".parquet"] == [
        "index.parquet"
    ]


def test_the_index_is_written_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stretches = make_all(tmp_path, 40)
    monkeypatch.setattr(cache_writer, "_SAVE_EVERY", 0.0)
    seen: list[int] = []

    def look(done: int, total: int) -> None:
        seen.append(pl.read_parquet(tmp_path / "c/index.parquet").height)
        check(PackedCache(tmp_path / "c"))

    pack(stretches, tmp_path / "c", RATE, progress=look)
    assert seen == [16, 32, 40]


def test_threads_do_not_mix_their_samples(tmp_path: Path) -> None:
    index: Any = pl.DataFrame(schema=cache_writer.SCHEMA)
    parts = Parts(tmp_path, index)
    places = [parts.reserve(n) for n in (3, 5, 2)]
    for place, value in reversed(list(zip(places, (1, 2, 3), strict=True))):
        parts.write(*place, np.full((3, 5, 2)[value - 1], value, np.int16))
    parts.sync()
    samples = np.fromfile(tmp_path / "audio-00000.i16", np.int16)
    assert samples.tolist() == [1] * 3 + [2] * 5 + [3] * 2


def test_to_int16_inverts_division_by_full_scale() -> None:
    every = np.arange(-32768, 32768, dtype=np.int16)
    assert np.array_equal(to_int16(every.astype(np.float32) / 32768), every)
