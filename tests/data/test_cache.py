"""The packed cache: exact, incremental, and honest about what it could not read."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from sonoformer.audio import read
from sonoformer.data import cache_writer
from sonoformer.data.cache import Packed, PackedCache, pack
from sonoformer.data.cache_index import exclusive
from sonoformer.data.sources import Stretch
from sonoformer.errors import UserError

RATE = 8000
END = float("inf")


def make(folder: Path, name: str, seconds: float = 0.5, seed: int = 0, rate: int = RATE) -> Stretch:
    samples = np.random.default_rng(seed).integers(-(2**15), 2**15, round(seconds * rate))
    soundfile.write(folder / name, samples.astype(np.int16), rate)
    return Stretch(str(folder / name), 0.0, END)


def sound(stretch: Stretch) -> np.ndarray:
    samples, _ = soundfile.read(stretch.path, dtype="int16")
    end = None if stretch.end == END else round(stretch.end * RATE)
    return samples[round(stretch.start * RATE) : end]


def check(packed: Packed, stretches: list[Stretch]) -> None:
    assert len(packed.cache) == len(packed.rows)
    for item, row in enumerate(packed.rows):
        assert packed.cache.name(item) == stretches[row].path
        expected = sound(stretches[row])
        assert packed.cache.lengths[item] == len(expected)
        assert np.array_equal(packed.cache.read(item, 0, len(expected)), expected)


def test_16_bit_sound_is_kept_exactly(tmp_path: Path) -> None:
    whole = make(tmp_path, "a.flac", 2.0)
    stretches = [whole, whole._replace(start=0.5, end=1.25), make(tmp_path, "b.wav"), whole]
    packed = pack(stretches, tmp_path / "c", RATE)
    assert packed.rows == [0, 1, 2, 3]
    assert packed.added == 3  # the same stretch is packed once
    assert packed.cache.read(0, 0, 10).dtype == np.int16
    check(packed, stretches)
    crop = packed.cache.read(0, 123, 456)
    assert np.array_equal(crop, sound(whole)[123:579])
    assert len(packed.cache.read(1, 5990, 100)) == 10  # never the neighbour's samples
    assert len(PackedCache(tmp_path / "c")) == 3


def test_other_rates_are_resampled_and_loud_sound_saturates(tmp_path: Path) -> None:
    other = make(tmp_path, "a.wav", rate=11025)
    loud = tmp_path / "loud.wav"
    wave = np.array([0.5, 1.5, -2.0, 1.0, -1.0] * 100, np.float32)
    soundfile.write(loud, wave, RATE, subtype="FLOAT")
    packed = pack([other, Stretch(str(loud), 0.0, END)], tmp_path / "c", RATE)
    expected = np.rint(read(other.path, RATE) * 32768).clip(-32768, 32767)
    assert np.array_equal(packed.cache.read(0, 0, 10**6), expected)
    assert packed.cache.read(1, 0, 5).tolist() == [16384, 32767, -32768, 32767, -32768]
    index = pl.read_parquet(tmp_path / "c/index.parquet")
    assert index.sort("path")["source_rate"].to_list() == [11025, RATE]


def test_long_stretches_are_packed_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_writer, "_LONG", 1.0)
    monkeypatch.setattr(cache_writer, "_PIECE", 0.75)
    whole = make(tmp_path, "a.wav", 5.3)
    parts = [(0.0, END), (0.0, 1.5), (1.3, 4.9), (0.8, END), (3.0, 50.0)]
    stretches = [whole._replace(start=start, end=end) for start, end in parts]
    check(pack(stretches, tmp_path / "c", RATE), stretches)


def test_packing_again_adds_only_what_is_new(tmp_path: Path) -> None:
    stretches = [make(tmp_path, f"{i}.wav", seed=i) for i in range(4)]
    assert pack(stretches[:2], tmp_path / "c", RATE).added == 2
    before = (tmp_path / "c/index.parquet").stat().st_mtime_ns
    assert pack(stretches[1::-1], tmp_path / "c", RATE).added == 0
    assert (tmp_path / "c/index.parquet").stat().st_mtime_ns == before
    packed = pack(stretches[::-1], tmp_path / "c", RATE)
    assert packed.added == 2
    check(packed, stretches[::-1])


def test_a_changed_file_is_packed_anew_and_a_touched_or_absent_one_is_not(tmp_path: Path) -> None:
    stretches = [make(tmp_path, f"{i}.wav", seed=i) for i in range(4)]
    pack(stretches, tmp_path / "c", RATE)
    make(tmp_path, "0.wav", seed=9)  # as long as before
    make(tmp_path, "1.wav", 0.75, seed=1)
    os.utime(tmp_path / "2.wav", ns=(1, 1))
    packed = pack(stretches, tmp_path / "c", RATE)
    assert packed.added == 2
    check(packed, stretches)
    kept = sound(stretches[3])
    (tmp_path / "3.wav").unlink()
    packed = pack(stretches, tmp_path / "c", RATE)
    assert (packed.added, packed.problems) == (0, [])
    assert np.array_equal(packed.cache.read(3, 0, 10**6), kept)
    # Nothing of the old versions is shown.
    assert len(PackedCache(tmp_path / "c")) == 4


def test_bad_files_are_listed_and_tried_again(tmp_path: Path) -> None:
    good = make(tmp_path, "good.wav")
    (tmp_path / "text.wav").write_text("not sound at all")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    names = ["text.wav", "gone.wav", "good.wav", "empty.wav", "nan.wav", "good.wav"]
    stretches = [good._replace(path=str(tmp_path / name)) for name in names]
    stretches += [good._replace(start=9.0), good._replace(channel=7)]
    packed = pack(stretches, tmp_path / "c", RATE)
    assert (packed.rows, packed.added) == ([2, 5], 1)
    check(packed, stretches)
    assert [Path(path).name for path, _ in packed.problems] == [
        "text.wav", "gone.wav", "empty.wav", "nan.wav", "good.wav",
    ]  # fmt: skip
    assert all(reason for _, reason in packed.problems)
    assert len(PackedCache(tmp_path / "c")) == 1
    make(tmp_path, "gone.wav", seed=3)
    packed = pack(stretches, tmp_path / "c", RATE)
    assert (packed.rows, packed.added) == ([1, 2, 5], 1)
    check(packed, stretches)


def test_samples_are_spread_over_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_writer, "PART_BYTES", 20_000)
    stretches = [make(tmp_path, f"{i}.wav", 0.4, seed=i) for i in range(9)]
    stretches.append(make(tmp_path, "long.wav", 2.0))
    pack(stretches[:4], tmp_path / "c", RATE)
    packed = pack(stretches, tmp_path / "c", RATE)
    check(packed, stretches)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "c").glob("audio-*.i16"))]
    assert len(sizes) > 3
    assert sum(size > 20_000 for size in sizes) == 1  # the long one, alone
    assert sum(sizes) == 2 * packed.cache.lengths.sum()


def test_the_cache_opens_in_other_processes(tmp_path: Path) -> None:
    stretches = [make(tmp_path, "a.wav")]
    cache = pack(stretches, tmp_path / "c", RATE).cache
    cache.read(0, 0, 10)
    data = pickle.dumps(cache)
    assert len(data) < 5000  # no samples travel
    assert np.array_equal(pickle.loads(data).read(0, 0, 10**6), sound(stretches[0]))


def test_a_million_stretches_name_each_file_once(tmp_path: Path) -> None:
    stretch = make(tmp_path, "a.wav", 5.0)
    many = [stretch._replace(start=i / 100, end=i / 100 + 0.1) for i in range(400)]
    cache = pack(many, tmp_path / "c", RATE).cache
    assert len(pickle.dumps(cache)) < 400 * 40
    assert cache.name(399) == stretch.path


def test_progress_counts_what_was_there_already(tmp_path: Path) -> None:
    stretches = [make(tmp_path, f"{i}.wav", 0.01) for i in range(40)]
    pack(stretches[:10], tmp_path / "c", RATE)
    calls: list[tuple[int, int]] = []
    pack(stretches, tmp_path / "c", RATE, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (40, 40)
    assert calls == sorted(calls)
    assert calls[0][0] > 10


@pytest.mark.parametrize("hurt", ["rate", "version", "columns", "garbage", "short", "no cache"])
def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path, hurt: str) -> None:
    stretches = [make(tmp_path, "a.wav")]
    folder = tmp_path / "c"
    pack(stretches, folder, RATE)
    rate = RATE
    if hurt == "rate":
        rate = 16000
    elif hurt == "version":
        (folder / "cache.json").write_text('{"version": 99}')
    elif hurt == "columns":
        pl.DataFrame({"path": ["x"]}).write_parquet(folder / "index.parquet")
    elif hurt == "garbage":
        (folder / "index.parquet").write_bytes(b"x" * 100)
    elif hurt == "short":
        (folder / "audio-00000.i16").write_bytes(b"xx")
    elif hurt == "no cache":
        (folder / "cache.json").unlink()
        with pytest.raises(UserError, match="not a packed cache"):
            PackedCache(folder)
        return
    with pytest.raises(UserError, match=f"{folder}.*(again|another folder)"):
        pack(stretches, folder, rate).cache.read(0, 0, 10)


def test_another_packing_process_is_waited_for(tmp_path: Path) -> None:
    stretches = [make(tmp_path, "a.wav")]
    pack([], tmp_path / "c", RATE)
    done: list[Packed] = []
    with exclusive(tmp_path / "c"):
        thread = threading.Thread(target=lambda: done.append(pack(stretches, tmp_path / "c", RATE)))
        thread.start()
        time.sleep(0.2)
        assert not done
    thread.join(10)
    check(done[0], stretches)


def test_packing_works_without_torch() -> None:
    code = "import sys, sonoformer.data.cache; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
