"""`sonoformer data convert`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.data.annotations import FORMATS, read_annotations


def sonoformer(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_annotations_go_from_tool_to_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / f"sound/site/{name}.wav", np.zeros(8000, np.float32) + 0.1, 800)
    Path("marks.csv").write_text(
        "where,from,until,who,high_hz\na.wav,0.5,1.5,owl,900\nb.wav,0.25,9.5,Owl,300\n"
    )
    Path("names.yaml").write_text("Owl: owl\n")
    words = ("--path-column", "where", "--start-column", "from", "--end-column", "until")
    words = (*words, "--label-column", "who", "--classes", "names.yaml", "--recordings", "sound")
    for name, kind in FORMATS.items():
        one = name in ("audacity", "textgrid")
        out = f"out-{name}" if one else f"out{kind.suffix}"
        assert sonoformer("data", "convert", "marks.csv", "--to", name, "--out", out, *words) == 0
        again = read_annotations(out, recordings="sound")
        expected = [(str(tmp_path / f"sound/site/{n}.wav"), "owl") for n in ("a", "b")]
        assert again.select("path", "label").rows() == expected
        assert again["start"].to_list() == [0.5, 0.25]
    assert "events 2, classes 1, recordings 2" in capsys.readouterr().out
    # Boxes end at the Nyquist frequency.
    raven = read_annotations("out.selections.txt")
    assert raven["high_hz"].to_list() == [400.0, 300.0]
    assert raven["path"].to_list() == ["site/a.wav", "site/b.wav"]


def test_mistakes_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "marks.csv"
    file.write_text("file,start,end,label\na.wav,2,1,x\n")
    out = tmp_path / "out.rttm"
    assert sonoformer("data", "convert", file, "--to", "rttm", "--out", out) == 2
    assert "an end before the start (row 1)" in capsys.readouterr().err
    assert not out.exists()
