"""Reading tables, lists and folders, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.columns import ColumnMap
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError


def tone(path: Path, seconds: float = 0.2, hz: float = 440.0, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * time), rate)
    return path


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_usual_names_are_found_and_other_columns_kept(tmp_path: Path) -> None:
    path = table(tmp_path, "filename,category,fold,author\na.wav,dog,1,me\nsub/b.wav,cat,2,you\n")
    manifest = Manifest.read(path)
    assert manifest.paths == [f"{tmp_path}/a.wav", f"{tmp_path}/sub/b.wav"]
    assert manifest.table["labels"].to_list() == [["dog"], ["cat"]]
    assert manifest.values("fold") == ["1", "2"]
    assert manifest.table["author"].to_list() == ["me", "you"]
    assert manifest.classes == ("cat", "dog")
    assert manifest.table["reviewed"].all()


def test_columns_named_by_flags_win(tmp_path: Path) -> None:
    path = table(tmp_path, "file;label;kind;where\na.wav;x;frog;pond\n")
    manifest = Manifest.read(path, columns=ColumnMap(label_column="kind", group_column="where"))
    assert manifest.table["labels"].to_list() == [["frog"]]
    assert manifest.values("group") == ["pond"]


def test_two_possible_label_columns_are_an_error_unless_they_say_the_same(tmp_path: Path) -> None:
    same = table(tmp_path, "filename,target,category\na.wav,0,dog\nb.wav,1,cat\nc.wav,0,dog\n")
    assert Manifest.read(same).classes == ("cat", "dog")
    other = table(tmp_path, "filename,species,tag\na.wav,frog,x\nb.wav,frog,y\n", "other.csv")
    with pytest.raises(UserError, match=r"species and tag could both.*--label-column"):
        Manifest.read(other)


def test_missing_columns_name_the_flag_and_the_nearest_name(tmp_path: Path) -> None:
    path = table(tmp_path, "sound,label\na.wav,dog\n")
    with pytest.raises(UserError, match=r"--path-column"):
        Manifest.read(path)
    columns = ColumnMap(path_column="sound", label_column="lable")
    with pytest.raises(UserError, match=r"no column 'lable'.*Did you mean 'label'"):
        Manifest.read(path, columns=columns)


def test_several_labels_by_separator(tmp_path: Path) -> None:
    path = table(tmp_path, 'path,labels,negatives\na.wav,"frog; toad;frog",owl\nb.wav,,\n')
    manifest = Manifest.read(path, separator=";")
    assert manifest.table["labels"].to_list() == [["frog", "toad"], []]
    assert manifest.table["negatives"].to_list() == [["owl"], []]
    assert manifest.table["reviewed"].to_list() == [True, True]
    assert manifest.multi_label
    assert manifest.classes == ("frog", "owl", "toad")
    whole = Manifest.read(path)
    assert whole.table["labels"].to_list()[0] == ["frog; toad;frog"]
    assert whole.table["reviewed"].to_list() == [True, False]


def test_a_table_without_labels_is_unlabelled_and_says_where_they_could_be(tmp_path: Path) -> None:
    manifest = Manifest.read(table(tmp_path, "path,digit\na.wav,3\n"))
    assert not manifest.labelled
    assert not manifest.table["reviewed"].any()
    with pytest.raises(UserError, match=r"no labels.*--label-column.*digit"):
        manifest.require_labels()


def test_times_bands_channels_and_dates(tmp_path: Path) -> None:
    text = (
        "file\tonset\toffset\tspecies\tfmin\tfmax\tchannel\ttimestamp\n"
        "a.wav\t1.5\t2.25\towl\t200\t900\t1\t2024-05-31T06:30:00Z\n"
        "a.wav\t3\t4\towl\t\t\tmix\t20240531_063000\n"
    )
    row = Manifest.read(table(tmp_path, text, "t.tsv")).table.to_dicts()
    assert [row[0][k] for k in ("start", "end", "low_hz", "high_hz")] == [1.5, 2.25, 200, 900]
    assert [r["channel"] for r in row] == [1, None]
    assert str(row[0]["recorded_at"]) == str(row[1]["recorded_at"]) == "2024-05-31 06:30:00"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,start\na.wav,1\nb.wav,soon\n", r"row 2: 'soon': 'start' is not a number"),
        ("path,end\na.wav,nan\n", r"row 1.*not a number"),
        ("path,channel\na.wav,-1\n", r"row 1: '-1': a channel is 0, 1"),
        ("path,split\na.wav,train\nb.wav,holdout\n", r"row 2: 'holdout'.*train, validation or te"),
        ("path,reviewed\na.wav,perhaps\n", r"row 1.*true or false"),
        ("path,recorded_at\na.wav,yesterday\n", r"row 1.*2024-05-31"),
        ("path,label\n,dog\n", r"row 1.*no file name"),
        ("path,label\n", r"no rows"),
        ("", r"labels.csv"),
        ("path,label\na,b,c,d\n", r"cannot be read as a table"),
    ],
)
def test_bad_values_name_the_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Manifest.read(table(tmp_path, text))


def test_split_names_are_made_one(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,subset\na.wav,x,Training\nb.wav,x,dev\nc.wav,y,eval\n")
    assert Manifest.read(path).table["split"].to_list() == ["train", "validation", "test"]


def test_absolute_and_climbing_paths_need_leave(tmp_path: Path) -> None:
    outside = tone(tmp_path / "audio" / "a.wav")
    absolute = table(tmp_path / "labels", f"path,label\n{outside},x\n")
    with pytest.raises(UserError, match=r"row 1.*absolute path.*--allow-absolute"):
        Manifest.read(absolute)
    assert Manifest.read(absolute, allow_absolute=True).paths == [str(outside)]
    climbing = table(tmp_path / "labels", "path,label\n../audio/a.wav,x\n", "climb.csv")
    with pytest.raises(UserError, match=r"row 1.*leaves the folder.*--root"):
        Manifest.read(climbing)
    assert Manifest.read(climbing, root=tmp_path / "labels").paths == [str(outside)]
    rooted = table(tmp_path / "labels", "path,label\na.wav,x\n", "rooted.csv")
    assert Manifest.read(rooted, root=tmp_path / "audio").paths == [str(outside)]


def test_dots_that_stay_inside_are_resolved(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\nsub/../a.wav,x\n./b.wav,x\n")
    assert Manifest.read(path).paths == [f"{tmp_path}/a.wav", f"{tmp_path}/b.wav"]


def test_folder_per_class_takes_the_first_folder_and_keeps_empty_classes(tmp_path: Path) -> None:
    tone(tmp_path / "dog" / "site1" / "a.wav")
    tone(tmp_path / "cat" / "b.wav")
    tone(tmp_path / "loose.wav")
    (tmp_path / "owl").mkdir()
    manifest = Manifest.read(tmp_path)
    found = {Path(p).name: labels for p, labels in manifest.table.select("path", "labels").rows()}
    assert found == {"a.wav": ["dog"], "b.wav": ["cat"], "loose.wav": []}
    assert manifest.classes == ("cat", "dog", "owl")


def test_folders_named_after_parts_are_splits(tmp_path: Path) -> None:
    for part, label in (("train", "dog"), ("train", "cat"), ("test", "dog")):
        tone(tmp_path / part / label / "a.wav")
    manifest = Manifest.read(tmp_path)
    assert manifest.classes == ("cat", "dog")
    assert sorted(manifest.table["split"].to_list()) == ["test", "train", "train"]


def test_list_of_files(tmp_path: Path) -> None:
    path = table(tmp_path, "# night\na.wav\n\nsub/b.wav\n", "files.txt")
    assert Manifest.read(path).paths == [f"{tmp_path}/a.wav", f"{tmp_path}/sub/b.wav"]


def test_unknown_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Manifest.read(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"\.csv, \.tsv, \.parquet"):
        Manifest.read(table(tmp_path, "x", "labels.xlsx"))
    with pytest.raises(UserError, match="Parquet"):
        Manifest.read(table(tmp_path, "x", "labels.parquet"))


labels = st.lists(
    st.text("abcdé ", min_size=1).map(str.strip).filter(bool), max_size=3, unique=True
)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(labels, labels, st.booleans()), min_size=1, max_size=6))
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_saved_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list
) -> None:
    folder = tmp_path_factory.mktemp("m")
    frame = pl.DataFrame(
        {
            "path": [f"{folder}/sub/{i}.wav" for i in range(len(rows))],
            "labels": [row[0] for row in rows],
            "negatives": [row[1] for row in rows],
            "reviewed": [row[2] for row in rows],
            "start": [i / 4 for i in range(len(rows))],
        },
        schema_overrides={"labels": pl.List(pl.String), "negatives": pl.List(pl.String)},
    )
    manifest = Manifest.of(frame)
    manifest.save(folder / f"m{suffix}")
    again = Manifest.read(folder / f"m{suffix}", separator=";")
    columns = ["path", "labels", "negatives", "reviewed", "start"]
    assert again.table.select(columns).equals(manifest.table.select(columns))


def test_saved_paths_move_with_their_folder(tmp_path: Path) -> None:
    Manifest.from_files([tmp_path / "one" / "a.wav"]).save(tmp_path / "one" / "m.csv")
    (tmp_path / "one").rename(tmp_path / "two")
    assert Manifest.read(tmp_path / "two" / "m.csv").paths == [f"{tmp_path}/two/a.wav"]


def test_filtering_keeps_the_class_list(tmp_path: Path) -> None:
    manifest = Manifest.read(table(tmp_path, "path,label\na.wav,10\nb.wav,9\n"))
    assert manifest.classes == ("9", "10")
    assert manifest.where(pl.col("path").str.ends_with("a.wav")).classes == ("9", "10")
    assert len(manifest.take([1])) == 1


def test_data_tables_need_no_torch() -> None:
    modules = ["manifest", "checks", "classes", "splits", "leaks", "summary", "pool", "selection"]
    names = ", ".join(f"sonoformer.data.{name}" for name in [*modules, "catalogue"])
    code = f"import sys; import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
