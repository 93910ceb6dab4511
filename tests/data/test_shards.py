"""Shards: what is written, that webdataset would read it, and what damage costs."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from sonoformer.audio import write
from sonoformer.data.shard_index import Recording, read_index, shard_path
from sonoformer.data.shard_writer import pack_shards
from sonoformer.data.shards import ShardSource
from sonoformer.errors import AudioError, UserError

RATE = 8000


def noise(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-9000, 9000, round(seconds * rate))
    return (values / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    for number in range(12):
        write(folder / f"{number:02d}.wav", noise(1 + number % 3, number), RATE)
    write(folder / "long.wav", noise(17.5, 99), RATE)
    return folder


def recordings(field: Path, names: str = "*.wav") -> list[Recording]:
    found = []
    for path in sorted(field.glob(names)):
        info = soundfile.info(path)
        found.append(Recording(str(path), 0.0, info.duration, group=path.stem[0], weight=2.0))
    return found


def pack(field: Path, out: Path, names: str = "*.wav", **options: float):  # type: ignore[no-untyped-def]
    options = {"megabytes": 0.1, "longest": 5.0, **options}
    return pack_shards(recordings(field, names), out, RATE, workers=2, **options)  # type: ignore[arg-type]


def contents(source: ShardSource) -> dict[tuple[str, float], np.ndarray]:
    starts = source.table["begin"].to_list()
    lengths = source.lengths.tolist()
    return {(source.name(i), starts[i]): source.read(i, 0, lengths[i]) for i in range(len(source))}


def test_what_was_packed_is_read_again_bit_by_bit(field: Path, tmp_path: Path) -> None:
    done = pack(field, tmp_path / "out")
    source = ShardSource(tmp_path / "out")
    assert done.shards > 2
    assert (done.added, len(source), done.problems) == (16, 16, [])
    for (path, begin), samples in contents(source).items():
        original, _ = soundfile.read(path, dtype="int16")
        assert np.array_equal(samples, original[begin : begin + len(samples)])
    # The long recording: equal pieces of at most five seconds that make it up, and its weight.
    rows = source.table.filter(source.table["path"].str.ends_with("long.wav")).sort("piece")
    assert rows["samples"].to_list() == [35000] * 4
    assert rows["weight"].to_list() == [0.5] * 4
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.read(3, 100, 50), source.read(3, 0, 400)[100:150])


def test_tars_follow_the_convention_of_webdataset(field: Path, tmp_path: Path) -> None:
    pack(field, tmp_path / "out")
    index = {row["key"]: row for row in read_index(tmp_path / "out").to_dicts()}
    seen = []
    for tar_path in sorted((tmp_path / "out").glob("shard-*.tar")):
        with tarfile.open(tar_path) as tar:
            members = tar.getmembers()
            # Members of one sample follow each other and share the name up to the first dot.
            for flac, facts in zip(members[::2], members[1::2], strict=True):
                key = flac.name.split(".", 1)[0]
                assert (flac.name, facts.name) == (f"{key}.flac", f"{key}.json")
                row = index[key]
                place = (row["offset"], row["bytes"])
                assert place == (flac.offset_data, flac.size)
                text = json.load(tar.extractfile(facts))  # type: ignore[arg-type]
                data = tar.extractfile(flac).read()  # type: ignore[union-attr]
                samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
                assert (text["sample_rate"], text["samples"]) == (rate, len(samples))
                assert (text["path"], text["group"]) == (row["path"], row["group"])
                seen.append(key)
    assert sorted(seen) == sorted(index)


def test_webdataset_reads_the_tars(field: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    pack(field, tmp_path / "out")
    urls = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 16
    assert all({"flac", "json"} <= set(sample) for sample in samples)


def test_bad_recordings_are_listed_and_left_out(field: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    write(bad / "silent.wav", np.zeros(RATE, np.float32), RATE)
    write(bad / "tiny.wav", noise(0.05, 1), RATE)
    write(bad / "half.wav", np.concatenate([noise(5, 2), np.zeros(5 * RATE, np.float32)]), RATE)
    write(bad / "good.wav", noise(1, 3), RATE)
    write(bad / "cut.wav", noise(10, 4), RATE)
    whole = recordings(bad)
    (bad / "corrupt.wav").write_bytes(b"RIFF" + bytes(range(200)))
    os.truncate(bad / "cut.wav", 44 + 2 * 6 * RATE)
    asked = [
        *whole,
        Recording(str(bad / "corrupt.wav"), 0, 1),
        Recording(str(bad / "no.wav"), 0, 1),
    ]
    done = pack_shards(asked, tmp_path / "out", RATE, longest=5.0)
    reasons = {Path(path).name: reason for path, reason in done.problems}
    assert set(reasons) == {"silent.wav", "tiny.wav", "half.wav", "corrupt.wav", "no.wav"}
    assert reasons["silent.wav"] == "is silent"
    assert reasons["half.wav"] == "is silent from 5.0 to 10.0 s"
    assert reasons["tiny.wav"] == "is shorter than 0.2 s"
    lengths = dict(zip(*_names_and_lengths(tmp_path / "out"), strict=True))
    assert lengths == {"good.wav": 8000, "half.wav": 40000, "cut.wav": 48000}
    listed = (tmp_path / "out" / "problems.csv").read_text()
    assert "silent.wav,is silent\n" in listed


def _names_and_lengths(folder: Path) -> tuple[list[str], list[int]]:
    table = ShardSource(folder).table.group_by("path").agg(pl.col("samples").sum())
    return [Path(path).name for path in table["path"]], table["samples"].to_list()


def test_packing_that_was_stopped_goes_on(
    field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(field, tmp_path / "whole")
    out, count = tmp_path / "out", iter(range(100))

    def interrupt(done: int, total: int) -> None:
        if next(count) == 9:
            raise KeyboardInterrupt

    options = {"megabytes": 0.1, "longest": 5.0}
    with pytest.raises(KeyboardInterrupt):
        pack_shards(recordings(field), out, RATE, progress=interrupt, **options)  # type: ignore[arg-type]
    kept = len(ShardSource(out))
    assert kept == 10
    # As after a kill: a tar that is in no index, and a half one under a temporary name.
    last = max(out.glob("shard-*.tar"))
    shard_path(out, int(last.stem[-5:]) + 1).write_bytes(b"orphan")
    (out / ".shard-00009-abc.tar").write_bytes(b"half")
    done = pack(field, out)
    assert (done.added, done.pieces) == (16 - kept, whole.pieces)
    assert not list(out.glob(".shard-*"))
    first, second = contents(ShardSource(tmp_path / "whole")), contents(ShardSource(out))
    assert all(np.array_equal(first[place], second[place]) for place in first)
    assert pack(field, out).added == 0


def test_a_full_disk_leaves_the_whole_shards(
    field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, put, count = tmp_path / "out", tarfile.TarFile.addfile, iter(range(1000))

    def full(self: tarfile.TarFile, *args: object) -> None:
        if next(count) == 16:
            raise OSError(28, "No space left on device")
        put(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(UserError, match="the disk is full"):
        pack(field, out)
    monkeypatch.undo()
    kept = len(ShardSource(out))
    assert 0 < kept < 8
    assert not list(out.glob(".shard-*"))
    assert pack(field, out).added == 16 - kept


def test_another_rate_or_a_folder_of_something_else_is_refused(field: Path, tmp_path: Path) -> None:
    pack(field, tmp_path / "out", "00.wav")
    with pytest.raises(UserError, match=r"sample_rate: .* packed with 8000, not 4000"):
        pack_shards(recordings(field, "00.wav"), tmp_path / "out", 4000, longest=5.0)
    with pytest.raises(UserError, match="not empty"):
        pack(field, field)
    with pytest.raises(UserError, match="no shards"):
        ShardSource(field)


def test_a_truncated_shard_costs_what_it_held_and_is_packed_again(
    field: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pack(field, out)
    before = contents(ShardSource(out))
    with open(shard_path(out, 0), "r+b") as file:
        file.truncate(40_000)
    shard_path(out, 1).unlink()
    source = ShardSource(out)
    assert 0 < len(source) < 16
    assert [reason.split(":")[0] for _, reason in source.problems] == ["is cut short", "is missing"]
    left = contents(source)
    assert all(np.array_equal(before[place], left[place]) for place in left)
    assert pack(field, out).added == 16 - len(source)
    assert contents(ShardSource(out)).keys() == before.keys()


def test_damage_while_training_is_an_error_of_the_recording(field: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(field, out)
    source = ShardSource(out)
    row = source.table.row(5, named=True)
    with open(shard_path(out, row["shard"]), "r+b") as file:
        file.seek(row["offset"] + row["bytes"] // 2)
        file.write(b"\0\1\2\3")
    with pytest.raises(AudioError, match=r"shard-\d+\.tar is damaged") as error:
        source.read(5, 0, 10)
    assert str(error.value.path) == row["path"]
    with open(shard_path(out, row["shard"]), "r+b") as file:
        file.truncate(row["offset"] + 10)
    with pytest.raises(AudioError, match="is cut short"):
        source.read(5, 0, 10)
    shard_path(out, row["shard"]).unlink()
    with pytest.raises(AudioError, match="cannot be read"):
        ShardSource.read(pickle.loads(pickle.dumps(source)), 5, 0, 10)


def test_a_recording_that_changed_is_told_of(field: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    write(own / "a.wav", noise(1, 0), RATE)
    pack(own, tmp_path / "out")
    write(own / "a.wav", noise(1, 1), RATE)
    done = pack(own, tmp_path / "out")
    assert done.added == 0
    assert [(path, "has changed" in reason) for path, reason in done.problems] == [
        (str(own / "a.wav"), True)
    ]
