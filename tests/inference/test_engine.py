"""Recordings through a model: resuming, bad files, batches across files, windows at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.audio import find, stream, write
from sonoformer.errors import UserError
from sonoformer.inference import Settings, compute_table, engine

RATE = 8000


class Loudness:
    """Stands for a model: the power of each window; counts its batches and can break down."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.sizes: list[int] = []
        self.fail_at = fail_at

    def __call__(self, wave: Tensor, lengths: Tensor) -> pl.DataFrame:
        if len(self.sizes) == self.fail_at:
            raise KeyboardInterrupt
        self.sizes.append(len(wave))
        power = wave.square().sum(1) / lengths
        return pl.DataFrame({"loud": power.numpy()})


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "field"
    for number in range(9):
        seconds = 0.4 if number % 3 else 3.7
        sound = rng.normal(0, 0.05 * (1 + number), round(seconds * RATE)).astype(np.float32)
        write(folder / f"{number}_20240501_0{number}0000.wav", sound, RATE)
    return folder


def run(folder: Path, work: Path, compute: Loudness, **changes: float) -> engine.Report:
    settings = Settings(window=1.0, batch_size=4, **changes)  # type: ignore[arg-type]
    return compute_table(find([folder]), compute, RATE, settings, work, identity="one")


def table(report: engine.Report) -> pl.DataFrame:
    lazy = report.table()
    assert lazy is not None
    return lazy.collect()


def test_batches_run_on_from_file_to_file(recordings: Path, tmp_path: Path) -> None:
    loudness = Loudness()
    report = run(recordings, tmp_path / "work", loudness)
    assert set(loudness.sizes[:-1]) == {4}
    assert report.windows == sum(loudness.sizes) == table(report).height == 3 * 4 + 6


def test_every_row_is_that_of_its_window(recordings: Path, tmp_path: Path) -> None:
    rows = table(run(recordings, tmp_path / "work", Loudness(), overlap=0.5))
    for row in rows.iter_rows(named=True):
        window = next(
            w
            for w in stream(row["path"], RATE, window=1.0, hop=0.5)
            if abs(w.start - row["start"]) < 1e-9
        )
        power = float(np.square(window.samples).sum() / window.valid)
        assert row["loud"] == pytest.approx(power, rel=1e-4)
        assert row["clock"].hour == int(Path(row["path"]).name[0])


def test_an_interrupted_run_ends_with_the_same_table(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WINDOWS_PER_BLOCK", 3)
    whole = table(run(recordings, tmp_path / "whole", Loudness()))
    with pytest.raises(KeyboardInterrupt):
        run(recordings, tmp_path / "work", Loudness(fail_at=3))
    again = run(recordings, tmp_path / "work", Loudness())
    assert again.resumed >= 9
    assert again.resumed + again.windows == whole.height
    assert table(again).equals(whole)
    third = run(recordings, tmp_path / "work", Loudness())
    assert (third.windows, third.resumed) == (0, whole.height)


def test_bad_files_are_listed_now_and_after_resuming(recordings: Path, tmp_path: Path) -> None:
    (recordings / "text.wav").write_text("no sound")
    sound = np.zeros(RATE * 2, np.float32)
    write(recordings / "nan.wav", sound, RATE, subtype="FLOAT")
    data = bytearray((recordings / "nan.wav").read_bytes())
    data[-400:-396] = np.float32(np.nan).tobytes()
    (recordings / "nan.wav").write_bytes(bytes(data))
    for _ in range(2):
        report = run(recordings, tmp_path / "work", Loudness())
        assert sorted(p.path.name for p in report.problems) == ["nan.wav", "text.wav"]
        assert table(report)["path"].n_unique() >= 9


def damaged(path: Path, seconds: float, bad: float) -> None:
    """A recording with a NaN at `bad` seconds."""
    write(path, np.full(round(seconds * RATE), 0.1, np.float32), RATE, subtype="FLOAT")
    data = bytearray(path.read_bytes())
    place = len(data) - 4 * round((seconds - bad) * RATE)
    data[place : place + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(bytes(data))


def test_what_follows_a_fault_stays_out_after_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WINDOWS_PER_BLOCK", 8)
    field = tmp_path / "field"
    damaged(field / "a.wav", seconds=50.0, bad=25.0)
    write(field / "b.wav", np.full(20 * RATE, 0.1, np.float32), RATE)
    whole = run(field, tmp_path / "whole", Loudness())
    rows = table(whole)
    heard = rows.filter(pl.col("path").str.ends_with("a.wav"))["end"].max()
    assert 8 < heard <= 25  # type: ignore[operator]
    assert rows.filter(pl.col("path").str.ends_with("b.wav")).height == 20
    for fail_at in range(1, len(rows) // 4, 4):
        work = tmp_path / f"work{fail_at}"
        with pytest.raises(KeyboardInterrupt):
            run(field, work, Loudness(fail_at))
        again = run(field, work, Loudness())
        assert table(again).equals(rows)
        assert again.problems == whole.problems


def test_a_kill_between_two_files_of_a_block_loses_no_row(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(recordings / "zz.wav", seconds=2.0, bad=1.5)
    whole = table(run(recordings, tmp_path / "whole", Loudness()))
    real, calls = engine.write_json, []

    def stop(path: Path, value: object) -> None:
        calls.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        run(recordings, tmp_path / "work", Loudness())
    monkeypatch.setattr(engine, "write_json", real)
    assert len(calls) == 1
    assert table(run(recordings, tmp_path / "work", Loudness())).equals(whole)


def test_clocks_of_several_zones_share_a_column(tmp_path: Path) -> None:
    for name in ("a_20240501_120000+0200", "b_20240501_120000Z", "c_20240501_120000", "d"):
        write(tmp_path / "field" / f"{name}.wav", np.full(RATE, 0.1, np.float32), RATE)
    rows = table(run(tmp_path / "field", tmp_path / "work", Loudness()))
    assert rows["clock"].dtype == pl.Datetime("ms")
    assert [None if t is None else t.hour for t in rows["clock"]] == [12, 12, 12, None]


def test_clearing_touches_only_blocks(recordings: Path, tmp_path: Path) -> None:
    run(recordings, tmp_path / "work", Loudness())
    mine = tmp_path / "work" / "notes.json"
    mine.write_text("{}")
    before = set((tmp_path / "work").iterdir())
    run(recordings, tmp_path / "work", Loudness(), overlap=0.5)
    after = set((tmp_path / "work").iterdir())
    assert before & after == {mine}


def test_more_windows_at_once_keep_what_is_done(recordings: Path, tmp_path: Path) -> None:
    report = run(recordings, tmp_path / "work", Loudness())
    settings = Settings(window=1.0, batch_size=2)
    again = compute_table(
        find([recordings]), Loudness(), RATE, settings, tmp_path / "work", identity="one"
    )
    assert again.resumed == report.windows


def test_another_model_begins_anew(recordings: Path, tmp_path: Path) -> None:
    settings = Settings(window=1.0, batch_size=4)
    for identity in ("one", "two", "one"):
        report = compute_table(
            find([recordings]), Loudness(), RATE, settings, tmp_path / "w", identity=identity
        )
        assert (report.resumed, report.windows) == (0, 18)


def test_other_settings_begin_anew(recordings: Path, tmp_path: Path) -> None:
    run(recordings, tmp_path / "work", Loudness())
    assert run(recordings, tmp_path / "work", Loudness(), overlap=0.5).resumed == 0


def test_a_replaced_recording_is_computed_anew(recordings: Path, tmp_path: Path) -> None:
    before = table(run(recordings, tmp_path / "work", Loudness()))
    path = find([recordings])[0]
    write(path, np.full(round(3.7 * RATE), 0.5, np.float32), RATE)
    after = table(run(recordings, tmp_path / "work", Loudness()))
    assert not after.equals(before)
    assert after.filter(pl.col("path") == str(path))["loud"][0] == pytest.approx(0.25, rel=1e-3)


@given(
    samples=st.integers(1, 60 * RATE),
    window=st.sampled_from([0.5, 1.0, 3.3]),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)
def test_windows_cover_a_recording_to_its_end(samples: int, window: float, overlap: float) -> None:
    settings = Settings(window=window, overlap=overlap, shortest=0.1)
    duration = samples / RATE
    count = engine.window_count(duration, settings)
    assert count >= 1
    covered = (count - 1) * settings.hop + window
    assert covered >= duration - 0.1 * window - 1e-6
    if count > 1:
        # No window but the first begins past the end, or repeats what the one before had heard.
        assert (count - 1) * settings.hop < duration
        assert (count - 2) * settings.hop + window < duration


def test_a_span_without_a_window_is_no_fault(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", np.ones(RATE + 1, np.float32) * 0.1, RATE)
    settings = Settings(window=1.0, overlap=0.0, shortest=0.0)
    report = compute_table(
        [tmp_path / "x.wav"], Loudness(), 4000, settings, tmp_path / "w", identity="x"
    )
    assert table(report).height >= 1
    assert report.problems == []


@pytest.mark.parametrize(
    "bad",
    [
        {"window": 0.0},
        {"window": float("nan")},
        {"overlap": 1.0},
        {"batch_size": 0},
        {"channel": -1},
        {"shortest": 2.0},
    ],
)
def test_settings_that_cannot_be_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        Settings(**bad)  # type: ignore[arg-type]


def test_nothing_to_hear(tmp_path: Path) -> None:
    report = compute_table([], Loudness(), RATE, Settings(), tmp_path / "w", identity="x")
    assert report.table() is None


def test_windows_shorter_than_a_sample_are_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="less than one sample"):
        run(recordings, tmp_path / "w", Loudness(), overlap=0.99999)


@pytest.mark.parametrize("readers", [1, 3])
def test_readers_change_nothing(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readers: int
) -> None:
    monkeypatch.setattr(engine, "WINDOWS_PER_BLOCK", 5)
    damaged(recordings / "3_damaged.wav", seconds=31.0, bad=12.0)
    report = run(recordings, tmp_path / "work", Loudness(), overlap=0.5, readers=readers)
    assert [p.path.name for p in report.problems] == ["3_damaged.wav"]
    other = run(recordings, tmp_path / "other", Loudness(), overlap=0.5, readers=2)
    assert table(report).equals(table(other))
    # Stopping in the middle leaves no reader behind that waits for ever.
    with pytest.raises(KeyboardInterrupt):
        run(recordings, tmp_path / "third", Loudness(fail_at=2), readers=readers)


def test_a_recording_that_grows_while_it_is_read_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "field" / "growing.wav"
    write(path, np.full(RATE * 60, 0.1, np.float32), RATE)

    class Writes(Loudness):
        def __call__(self, wave: Tensor, lengths: Tensor) -> pl.DataFrame:
            with open(path, "ab") as file:
                file.write(bytes(RATE))
            return super().__call__(wave, lengths)

    report = run(path.parent, tmp_path / "work", Writes(), readers=1)
    assert [p.path for p in report.problems] == [path]
    assert "changed while it was read" in report.problems[0].reason
    assert table(report).height == 60
    again = run(path.parent, tmp_path / "work", Loudness())
    assert again.problems == []
    assert again.resumed == 0


def test_a_recording_that_is_cut_off_is_heard_and_named(tmp_path: Path) -> None:
    path = tmp_path / "field" / "cut.wav"
    write(path, np.full(RATE * 8, 0.1, np.float32), RATE)
    path.write_bytes(path.read_bytes()[: RATE * 2 * 5])
    report = run(path.parent, tmp_path / "work", Loudness())
    assert report.windows == 5
    assert [(r.path, "cut off" in r.text) for r in report.remarks] == [(path, True)]


def test_batches_hold_as_much_sound_whatever_the_window() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [Settings(window=s).batch(cpu) for s in (0.5, 2.56, 10.0, 60.0)] == [40, 8, 2, 1]
    assert Settings(window=10.0).batch(gpu) == 16
    assert Settings(window=1e-3).batch(cpu) == 256
    assert Settings(window=10.0, batch_size=5).batch(cpu) == 5
