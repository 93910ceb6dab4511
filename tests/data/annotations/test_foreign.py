"""Tables as other programs and people make them: good ones read, bad ones refused in a sentence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sonoformer.audio import write
from sonoformer.data.annotations import (
    EventColumns,
    annotated,
    read_annotations,
    read_class_map,
    read_marks,
)
from sonoformer.data.events import reviewed_of
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def saved(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def rows(table: pl.DataFrame) -> list[tuple[object, ...]]:
    return table.select("path", "start", "end", "label").rows()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Two recordings of 10 s that know when they began, in folders, and one in both."""
    folder = tmp_path / "sound"
    for name in ("north/20240501_220000.wav", "south/20240501_230000.wav"):
        write(folder / name, np.zeros(10_000, np.float32) + 0.1, 1000)
    for site in ("north", "south"):
        write(folder / site / "both.wav", np.zeros(5000, np.float32) + 0.1, 1000)
    return folder


def test_raven_views_of_one_selection_are_one_event(tmp_path: Path) -> None:
    lines = [
        f"{RAVEN}\tCall type",
        "1\tWaveform 1\t1\t1.5\t2.5\t\t\tsong",
        "1\tSpectrogram 1\t1\t1.5\t2.5\t100\t900.5\tsong",
        "2\tWaveform 1\t2\t3\t4\t\t\tcall",
        "1\tSpectrogram 1\t1\t5\t6\t100\t900\tsong",  # from a table that was pasted below
    ]
    table = read_annotations(saved(tmp_path / "n.Table.1.selections.txt", "\n".join(lines)))
    assert rows(table) == [("n", 1.5, 2.5, "song"), ("n", 3, 4, "call"), ("n", 5, 6, "song")]
    assert table["high_hz"].to_list() == [900.5, None, 900]
    assert table["channel"].to_list() == [0, 1, 0]


def test_the_class_of_a_raven_table_is_the_only_column_that_is_not_ravens(tmp_path: Path) -> None:
    text = f"{RAVEN}\tDelta Time (s)\tWho\n1\tSpectrogram 1\t1\t1\t2\t0\t9\t1\tMaya\n"
    assert read_annotations(saved(tmp_path / "a.selections.txt", text))["label"][0] == "Maya"
    two = text.replace("Who", "Who\tWhat").replace("Maya", "Maya\trumble")
    file = saved(tmp_path / "b.selections.txt", two)
    with pytest.raises(UserError, match="no column holds the label; name it by --label-column"):
        read_annotations(file)
    assert read_annotations(file, columns=EventColumns(label_column="What"))["label"][0] == "rumble"
    with pytest.raises(UserError, match=r"no column 'Whot'.*Did you mean 'Wh"):
        read_annotations(file, columns=EventColumns(label_column="Whot"))


def test_running_times_become_times_in_each_file(tmp_path: Path, sound: Path) -> None:
    one, two = (f"C:\\field\\{name}" for name in ("north\\20240501_220000.wav", "both.flac"))
    head = f"{RAVEN}\tBegin Path\tFile Offset (s)\tSpecies"
    lines = [
        head,
        f"1\tSpectrogram 1\t1\t2.1\t3.3\t0\t9\t{one}\t2.1\towl",
        f"2\tSpectrogram 1\t1\t10.1\t10.4\t0\t9\t{two}\t0.1\towl",
    ]
    file = saved(tmp_path / "all.selections.txt", "\n".join(lines))
    table = read_annotations(file)
    assert rows(table) == [(one, 2.1, 3.3, "owl"), (two, 0.1, 0.4, "owl")]
    with pytest.raises(UserError, match=r"could be north/both.wav and south/both.wav"):
        read_annotations(file, recordings=sound)
    (sound / "south/both.wav").unlink()
    found = read_annotations(file, recordings=sound)
    assert found["path"].to_list() == [
        str(sound / name) for name in ("north/20240501_220000.wav", "north/both.wav")
    ]


def test_a_clock_is_counted_from_each_recordings_beginning(tmp_path: Path, sound: Path) -> None:
    head = f"{RAVEN}\tBegin File\tBegin Date Time\tSpecies"
    lines = [
        head,
        "1\tSpectrogram 1\t1\t2\t3.5\t0\t9\t20240501_220000.wav\t2024/05/01 22:00:02.250\towl",
        "2\tSpectrogram 1\t1\t12\t13\t0\t9\t20240501_230000.wav\t2024/05/01 23:00:02\towl",
    ]
    file = saved(tmp_path / "all.selections.txt", "\n".join(lines))
    table = read_annotations(file, recordings=sound)
    assert table.select("start", "end").rows() == [(2.25, 3.75), (2.0, 3.0)]
    assert table.columns == read_annotations(saved(tmp_path / "a.txt", "0\t1\tx")).columns
    with pytest.raises(UserError, match="has times of a clock; name the folder"):
        read_annotations(file)
    # The same moments in the clock of another zone lie outside the recordings.
    shifted = saved(tmp_path / "utc.selections.txt", "\n".join(lines).replace("/01 22:", "/01 20:"))
    with pytest.raises(UserError, match="1 event has a start before the recording's beginning"):
        read_annotations(shifted, recordings=sound)
    nowhere = [line.replace("Begin Date Time", "Note") for line in lines]
    with pytest.raises(UserError, match="runs over 2 recordings but says neither"):
        read_annotations(saved(tmp_path / "no.selections.txt", "\n".join(nowhere)))


def test_a_csv_may_have_a_clock(tmp_path: Path, sound: Path) -> None:
    text = "file;clock;duration;label\nboth.wav;2024-05-01T22:00:03,5;1,5;owl\n"
    file = saved(tmp_path / "c.csv", text.replace("both", "20240501_220000"))
    assert rows(read_annotations(file, recordings=sound))[0][1:] == (3.5, 5.0, "owl")
    (sound / "south/both.wav").unlink()
    with pytest.raises(UserError, match=r"nothing says when .*both.wav began"):
        read_annotations(saved(tmp_path / "d.csv", text), recordings=sound)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings_of_windows_programs_are_read(tmp_path: Path, encoding: str) -> None:
    text = f"{RAVEN}\tSpecies\r\n1\tSpectrogram 1\t1\t1.5\t2.5\t0\t9\tMésange bleue\r\n"
    file = saved(tmp_path / "a.selections.txt", text, encoding)
    assert rows(read_annotations(file)) == [("a", 1.5, 2.5, "Mésange bleue")]


def test_decimal_commas_and_any_separator(tmp_path: Path) -> None:
    for mark in ";\t|":
        text = "file;onset;offset;class\nx.wav;0,5;1,25;owl\n".replace(";", mark)
        assert rows(read_annotations(saved(tmp_path / "a.csv", text))) == [
            ("x.wav", 0.5, 1.25, "owl")
        ]
    text = 'file,onset,offset,class\nx.wav,"0,5","1,25","owl, ""barn"""\n'
    assert rows(read_annotations(saved(tmp_path / "b.csv", text)))[0][3] == 'owl, "barn"'
    text = "0,5\t1,25\towl\n\\\t100,5\t-1\n"
    table = read_annotations(saved(tmp_path / "c.txt", text))
    assert table.select("start", "end", "low_hz", "high_hz").row(0) == (0.5, 1.25, 100.5, None)


def test_tables_of_other_programs_are_understood(tmp_path: Path) -> None:
    kaleidoscope = (
        "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmax,TOP1MATCH\n"
        "D:\\,site1,a.wav,0,1.5,0.25,100,200,PIPPIP\n"
    )
    table = read_annotations(saved(tmp_path / "k.csv", kaleidoscope))
    assert rows(table) == [("site1/a.wav", 1.5, 1.75, "PIPPIP")]
    assert (table["low_hz"][0], table["high_hz"][0]) == (100, 200)
    birdnet = (
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
        "0,3.0,Turdus merula,Blackbird,0.9,/x/a.wav\n"
    )
    table = read_annotations(saved(tmp_path / "b.csv", birdnet))
    assert rows(table) == [("/x/a.wav", 0, 3, "Blackbird")]
    assert table["score"].to_list() == [0.9]
    hoplite = "recording,start_offset_s,end_offset_s,label,label_type\na.wav,5,10,owl,positive\n"
    assert rows(read_annotations(saved(tmp_path / "h.csv", hoplite)))[0][1:3] == (5, 10)
    spoof = "SPEAKER CON_1 1 0.000 0.540 <NA> <NA> bonafide <NA> <NA>\n;; comment\n"
    assert rows(read_annotations(saved(tmp_path / "s.rttm", spoof))) == [
        ("CON_1", 0, 0.54, "bonafide")
    ]
    short = 'File type = "ooTextFile"\n"TextGrid"\n\n0\n2.5\n<exists>\n1\n"IntervalTier"\n"w"\n'
    short += '0\n2.5\n2\n0\n1.25\n""\n1.25\n2.5\n"say ""hi"""\n'
    for encoding in ("utf-8", "utf-16"):
        file = saved(tmp_path / "t.TextGrid", short, encoding)
        assert rows(read_annotations(file)) == [("t", 1.25, 2.5, 'say "hi"')]
    nested = '{"events": [{"file": "a", "onset": 1, "offset": 2.5, "species": "x"}]}'
    assert rows(read_annotations(saved(tmp_path / "n.json", nested))) == [("a", 1, 2.5, "x")]


def test_rows_of_a_csv_without_label_and_end_name_recordings(tmp_path: Path) -> None:
    head = "path,start,end,label,reviewed\n"
    lines = "a.wav,1,2,owl,false\na.wav,0.0,,,true\nb.wav,0,,,true\nc.wav,,,,true\n"
    marks = read_marks(saved(tmp_path / "manifest.csv", head + lines))
    assert rows(marks.events) == [("a.wav", 1, 2, "owl")]
    assert marks.empty == ("b.wav", "c.wav")
    for bad in ("a.wav,1,2,,false\n", "a.wav,3,,,false\n", "a.wav,0,,owl,false\n"):
        with pytest.raises(UserError, match="row 1"):
            read_annotations(saved(tmp_path / "bad.csv", head + bad))


def test_desed_names_recordings_without_events(tmp_path: Path, sound: Path) -> None:
    head = "filename\tonset\toffset\tevent_label\n"
    lines = "north/both.wav\t0.5\t1.0\tDog\nsouth/both.wav\t\t\t\n"
    file = saved(tmp_path / "strong.tsv", head + lines)
    assert read_marks(file).empty == ("south/both.wav",)
    for manifest in (annotated(file, recordings=sound), Manifest.read(file, root=sound)):
        assert manifest.files == [str(sound / f"{site}/both.wav") for site in ("north", "south")]
        assert reviewed_of(manifest)["path"].to_list() == manifest.files
        assert manifest.classes == ("Dog",)
    empty = saved(tmp_path / "empty.tsv", head)
    assert read_marks(empty).empty == read_marks(empty, recordings=sound).empty == ()
    own = saved(tmp_path / "20240501_220000.tsv", head)
    one = str(sound / "north/20240501_220000.wav")
    assert read_marks(own, recordings=sound).empty == (one,)
    weak = saved(tmp_path / "weak.tsv", "filename\tevent_labels\na.wav\tDog,Cat\n")
    with pytest.raises(UserError, match="no column holds the start"):
        read_annotations(weak, "dcase")


def test_manifests_take_tables_whose_names_say_what_they_are(sound: Path) -> None:
    saved(sound / "north/20240501_220000.rttm", "SPEAKER 20240501_220000 1 1 2 x x owl <NA> x\n")
    for name in ("20240501_220000.selections.txt", "both.Table.1.selections.txt"):
        text = f"{RAVEN}\tSpecies\n1\tSpectrogram 1\t1\t1\t2\t0\t9\tfrog\n"
        saved(sound / "north" / name, text)
    one = Manifest.read(sound / "north/20240501_220000.rttm")
    assert one.table.select("start", "end", "reviewed").rows() == [(1, 3, False), (0, None, True)]
    two = Manifest.read(sound / "north/both.Table.1.selections.txt")
    assert two.files == [str(sound / "north/both.wav")]


def test_classes_are_renamed_merged_and_dropped(tmp_path: Path) -> None:
    names = saved(tmp_path / "names.yaml", "rumbel: rumble\nnoise: null\n'': unknown\n7: seven\n")
    classes = read_class_map(names)
    file = saved(tmp_path / "a.txt", "0\t1\trumbel\n1\t2\trumble\n2\t3\tnoise\n3\t4\t\n4\t5\t7\n")
    with pytest.raises(UserError, match=r"1 event has no label.*\(row 4\)"):
        read_annotations(file)
    table = read_annotations(file, classes=classes)
    assert table["label"].to_list() == ["rumble", "rumble", "unknown", "seven"]
    with pytest.raises(UserError, match="put words such as yes and no in quotes"):
        read_class_map(saved(tmp_path / "bad.yaml", "no: yes\n"))


def test_paths_never_leave_the_folder(tmp_path: Path, sound: Path) -> None:
    write(tmp_path / "secret.wav", np.zeros(100, np.float32), 1000)
    for name in ("../secret.wav", "north/../../secret.wav", str(tmp_path / "secret.wav")):
        file = saved(tmp_path / "a.csv", f"file,start,end,label\n{name},0,1,x\n")
        with pytest.raises(UserError, match=r"leaves the folder|1 recording is not in"):
            read_annotations(file, recordings=sound)
    with pytest.raises(UserError, match="no such folder"):
        read_annotations(file, recordings=tmp_path / "nowhere")


GOOD = "file,start,end,label\nboth.wav,1,2,x\n"
BAD = {
    "beyond the end": (GOOD.replace("2,x", "99,x"), "an end after the recording's end"),
    "negative": (GOOD.replace("1,2", "-1,2"), "a start before the recording's beginning"),
    "turned": (GOOD.replace("1,2", "2,1"), "an end before the start"),
    "infinite": (GOOD.replace("1,2", "1,inf"), "a time that is no number"),
    "no number": (GOOD.replace("1,2", "1,2_0"), "row 1: end '2_0' is not a number"),
    "no time": (GOOD.replace("1,2", "1,"), "a time that is no number"),
    "cut off": (GOOD + "both.wav,1", "the last row ends in its middle"),
    "cut in quotes": (GOOD + 'both.wav,1,2,"x', "was it cut off"),
    "too long": (GOOD + "both.wav,1,2,x,y\n", "row 2 has 5 cells under 4 columns"),
    "columns twice": (GOOD.replace("label", "start"), "2 columns are called 'start' and differ"),
    "points and commas": (GOOD + 'both.wav,1.5,"2,5",x\nboth.wav,1,2.5,x\n', "points and commas"),
    "no label column": ("file,start,end\na,1,2\n", "no column holds the label"),
    "no end": ("file,start,label\na,1,x\n", "no column holds the end"),
    "channel": ("file,start,end,label,channel\na,1,2,x,-1\n", "channel '-1' is not 0, 1, 2"),
    "empty": ("", "is empty"),
    "blank": ("\n \n", "is empty"),
    "binary": ("RIFF\0\1\2\3WAVE" * 100, "is binary"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_in_a_sentence(case: str, tmp_path: Path, sound: Path) -> None:
    text, reason = BAD[case]
    (sound / "south/both.wav").unlink()
    file = saved(tmp_path / "marks.csv", text)
    with pytest.raises(UserError, match=reason) as refusal:
        read_annotations(file, recordings=sound)
    assert str(refusal.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.rttm", "SPEAKER a 1 0.5", "has 4 fields where a SPEAKER line has 10"),
        ("a.rttm", "hello\n", "has no SPEAKER line"),
        ("a.rttm", "SPEAKER a 0 0.5 1 x x y <NA> x", "channel '0' is not 1, 2, 3"),
        ("a.txt", "0\t1\tx\n2", "line 2: '2' is no label of Audacity"),
        ("a.txt", "hello world", "is neither a Raven table nor an Audacity track"),
        ("a.TextGrid", 'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n1\n"Int', "cut off"),
        ("a.TextGrid", "hello", "is no TextGrid"),
        ("a.json", '[{"start": 1', "was it cut off"),
        ("a.json", '{"a": 1}', "should hold a list of objects"),
        ("a.json", '[{"start": [1], "end": 2, "label": "x"}]', "does not hold numbers"),
        ("a.jsonl", '{"start": 1}\n{"sta', "line 2: cannot be read as JSON"),
        ("a.parquet", "PAR1", "cannot be read as Parquet"),
        ("a.selections.txt", "Selection\tView\n1\tx\n", "is no Raven selection table"),
        ("a.docx", "hello", "its format cannot be told"),
    ],
)
def test_bad_files_of_other_formats_are_refused(
    name: str, text: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        read_annotations(saved(tmp_path / name, text))


def test_overlaps_within_a_class_are_kept(tmp_path: Path) -> None:
    table = read_annotations(saved(tmp_path / "a.txt", "0\t2\tx\n1\t3\tx\n"))
    assert table.height == 2


def test_a_folder_without_tables_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no table"):
        read_annotations(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        read_annotations(tmp_path / "x.csv")
    with pytest.raises(UserError, match="--from foo: unknown"):
        read_annotations(tmp_path, "foo")


def test_clocks_are_read_in_the_forms_programs_write() -> None:
    from sonoformer.data.annotations.columns import _moment

    moment = datetime(2024, 5, 1, 22, 0, 2)
    for text in ("2024/05/01 22:00:02", "2024-05-01T22:00:02", "05/01/2024 10:00:02 PM"):
        assert _moment(text) == moment
    assert _moment("yesterday") is None
