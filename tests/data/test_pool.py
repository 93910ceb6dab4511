"""Unlabelled pools: what is taken, what is left out, what is listed."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import gather
from sonoformer.data.summary import render, summarise
from sonoformer.errors import UserError


def noise(path: Path, seed: int, seconds: float = 0.5, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.1, 0.1, int(seconds * rate))
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    for i in range(4):
        noise(folder / f"site{i % 2}" / f"r{i}_20240531_06000{i}.wav", i, 0.5 + i / 10)
    return folder


def names(table: pl.DataFrame) -> set[str]:
    return {Path(path).name[:2] for path in table["path"]}


def test_folders_globs_files_and_manifests_together(recordings: Path, tmp_path: Path) -> None:
    extra = noise(tmp_path / "x0.wav", 9)
    (tmp_path / "m.csv").write_text("path,start,end\nx0.wav,0.1,0.3\n")
    calls: list[tuple[int, int]] = []
    pool = gather(
        [recordings / "site0", f"{recordings}/site1/*.wav", tmp_path / "m.csv"],
        progress=lambda done, total: calls.append((done, total)),
    )
    table = pool.manifest.table
    assert names(table) == {"r0", "r1", "r2", "r3", "x0"}
    by_name = {Path(r["path"]).name[:2]: r for r in table.iter_rows(named=True)}
    assert by_name["r3"]["duration"] == pytest.approx(0.8)
    assert by_name["x0"]["duration"] == pytest.approx(0.2)
    assert by_name["x0"]["path"] == str(extra)
    assert str(by_name["r2"]["recorded_at"]) == "2024-05-31 06:00:02"
    assert not pool.manifest.table["reviewed"].any()
    assert calls[-1] == (5, 5)


def test_bad_files_are_listed_not_fatal(recordings: Path) -> None:
    (recordings / "empty.wav").touch()
    (recordings / "text.wav").write_text("hello there, this is no sound")
    pool = gather([recordings])
    assert len(pool.manifest) == 4
    assert {error.path.name for error in pool.bad} == {"empty.wav", "text.wav"}
    assert "2 unusable" in pool.summary
    with pytest.raises(UserError, match=r"no usable recording.*1 could not be read"):
        gather([recordings / "text.wav"])


def test_tested_recordings_are_kept_out_by_name_content_and_group(
    recordings: Path, tmp_path: Path
) -> None:
    files = sorted(recordings.rglob("*.wav"))
    tested = [files[0], tmp_path / "elsewhere" / "renamed.wav"]
    tested[1].parent.mkdir()
    shutil.copy(files[1], tested[1])
    held = Manifest.of(pl.DataFrame({"path": map(str, tested), "group": ["g", "h"]}))
    pool = gather([recordings], exclude=[held])
    assert names(pool.manifest.table) == names(pl.DataFrame({"path": map(str, files[2:])}))
    assert pool.held_out == 2
    own = Manifest.of(pl.DataFrame({"path": map(str, files), "group": ["a", "b", "h", None]}))
    assert names(gather([own], exclude=[held]).manifest.table) == {files[3].name[:2]}


def test_a_linked_folder_does_not_smuggle_a_tested_file_in(
    recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(recordings)
    held = Manifest.from_files([str(p) for p in sorted(recordings.rglob("*.wav"))[:3]])
    assert len(gather([tmp_path / "alias"], exclude=[held]).manifest) == 1


def test_copies_are_dropped_unless_asked_for(recordings: Path) -> None:
    first = sorted(recordings.rglob("*.wav"))[0]
    shutil.copy(first, recordings / "z_copy.wav")
    pool = gather([recordings])
    assert (len(pool.manifest), pool.repeated) == (4, 1)
    assert "z_" not in names(pool.manifest.table)
    assert len(gather([recordings], drop_copies=False).manifest) == 5


def test_short_stretches_can_be_left_out(recordings: Path) -> None:
    assert len(gather([recordings], min_seconds=0.65).manifest) == 2


def test_nothing_given_is_a_sentence() -> None:
    with pytest.raises(UserError, match="no recordings given"):
        gather([])


def test_summary_counts_labels_hours_and_parts(recordings: Path) -> None:
    files = sorted(map(str, recordings.rglob("*.wav")))
    frame = pl.DataFrame(
        {
            "path": [*files, files[0]],
            "labels": [["a"], ["b"], ["a", "b"], [], ["a"]],
            "split": ["train", "train", "test", "test", "train"],
            "group": ["g", "g", "h", "h", "g"],
            "end": [None, None, None, None, 0.25],
        },
        schema_overrides={"labels": pl.List(pl.String)},
    )
    found = summarise(Manifest.of(frame, "frogs"))
    assert (found.rows, found.files, found.groups, found.unlabelled) == (5, 4, 2, 1)
    assert found.hours == pytest.approx((0.5 + 0.6 + 0.7 + 0.8 + 0.25) / 3600)
    assert found.seconds == pytest.approx((0.25, 0.6, 0.8))
    assert found.labels.select("label", "rows").rows() == [("a", 3), ("b", 2)]
    assert found.parts.select("part", "rows", "groups").rows() == [("test", 2, 1), ("train", 3, 1)]
    assert found.sample_rates.rows() == [(8000, 1, 4)]
    assert summarise(Manifest.of(frame), probe=False).hours is None


def test_summary_is_drawn_with_its_numbers(recordings: Path) -> None:
    from rich.console import Console

    recordings = recordings.rename(recordings.with_name("[red]recordings"))
    (recordings / "bad.wav").write_text("not sound at all")
    manifest = Manifest.read(recordings)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(render(summarise(manifest), most=1))
    text = console.export_text()
    assert "5 rows of 5 files" in text
    assert "[red]recordings" in text
    assert "site0" in text
    assert "and 1 more labels" in text
    assert "bad.wav" in text
