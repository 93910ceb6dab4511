"""Tables to a run: figures, mistakes with sound, a report; bad tables are sentences."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.evaluation.events.worlds import world

from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.errors import AudioError
from sonoformer.evaluation.events import sections
from sonoformer.evaluation.events.card import event_scorecard
from sonoformer.evaluation.events.evaluate import cut
from sonoformer.evaluation.events.mistakes import mistakes
from sonoformer.evaluation.report import Examples, Prose, Report


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two recordings, annotations of both and found events."""
    root = tmp_path_factory.mktemp("field")
    answers = world(0, recordings=2, seconds=60.0, error=0.3)
    answers.truth.select("path", "start", "end", "label").write_csv(root / "truth.csv")
    answers.found.select("path", "start", "end", "label", "score").write_csv(root / "found.csv")
    rng = np.random.default_rng(0)
    for path in answers.paths:
        wave = rng.normal(0, 0.05, 60 * 4000).astype(np.float32)
        write(root / "sound" / path, wave, 4000)
    about = pl.DataFrame(
        {"path": answers.paths, "seconds": [60, 60], "group": ["a", "b"], "fold": ["1", "2"]}
    )
    about.write_csv(root / "about.csv")
    return root


def run(*tokens: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--events", *map(str, tokens)])
    return int(str(end.value.code or 0))


def test_the_command_writes_figures_mistakes_and_a_report(
    field: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    tables = (field / "truth.csv", field / "found.csv")
    options = ("--recordings", field / "sound", "--about", field / "about.csv")
    assert run(*tables, *options, "--out", out, "--resamples", 5) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["figures"]["event_f1"]["over"] == "2 groups"
    assert [row["fold"] for row in metrics["folds"]] == ["1", "2"]
    assert "Event F1" in capsys.readouterr().out
    wrong = pl.read_csv(out / "mistakes.csv")
    assert set(wrong["kind"]) == {"false alarm", "miss", "bad end"}
    page = (out / "report.html").read_text(encoding="utf-8")
    shown = sum(min(6, count) for count in wrong["kind"].value_counts()["count"])
    assert page.count("<audio") == shown
    assert 'class="event true wrong"' in page
    assert 'class="event wrong"' in page
    assert "Precision and recall" in page
    assert run(*tables, *options, "--out", out) == 2


def test_without_sound_lengths_are_enough(field: Path, tmp_path: Path) -> None:
    tables = (field / "truth.csv", field / "found.csv")
    out = tmp_path / "run"
    options = ("--about", field / "about.csv", "--out", out, "--resamples", 5)
    assert run(*tables, *options) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<audio" not in page
    assert "Without sound" in page


def test_recordings_without_annotation_are_said_or_left_out(field: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    pl.read_csv(field / "truth.csv").filter(pl.col("path") == "0.wav").write_csv(truth)
    common = (truth, field / "found.csv", "--about", field / "about.csv", "--resamples", 5)
    assert run(*common, "--out", tmp_path / "all") == 0
    everything = json.loads((tmp_path / "all/metrics.json").read_text())
    assert everything["recordings"] == 2
    assert any("without any true event" in note for note in everything["notes"])
    assert run(*common, "--only-annotated", "--out", tmp_path / "some") == 0
    some = json.loads((tmp_path / "some/metrics.json").read_text())
    assert some["recordings"] == 1
    assert some["found"] < everything["found"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("path,hours\n0.wav,1\n", "needs a column path and any of seconds, group, fold"),
        ("path,seconds\n0.wav,long\n1.wav,60\n", "seconds must be a number above 0"),
        ("path,seconds\n0.wav,60\n0.wav,60\n", "more than one row"),
        ("path,seconds\n0.wav,60\n", "nothing says how long it is"),
        ("path,seconds\n0.wav,20\n1.wav,60\n", "after the recording's end"),
        ("path,seconds,fold\n0.wav,60,a\n1.wav,60,\n", "is in no fold"),
        ("path,seconds,group\n0.wav,60,a\n1.wav,60,\n", "has no group"),
    ],
)
def test_bad_tables_are_sentences(
    field: Path, tmp_path: Path, lines: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "about.csv").write_text(lines)
    tables = (field / "truth.csv", field / "found.csv")
    assert run(*tables, "--about", tmp_path / "about.csv", "--out", tmp_path / "run") == 2
    assert sentence in capsys.readouterr().err


def test_one_table_is_not_enough(field: Path) -> None:
    assert run(field / "truth.csv") != 0


def test_only_cuts_around_the_mistakes_shown_are_read() -> None:
    answers = world(3, recordings=2, seconds=7200.0)
    asked: list[tuple[str, float, float]] = []

    def read(path: str, start: float, end: float) -> tuple[np.ndarray, int]:
        asked.append((path, start, end))
        if len(asked) == 2:
            raise AudioError(path, "is gone")
        return np.zeros(round((end - start) * 1000), np.float32), 1000

    wrong = mistakes(answers)
    section = sections.errors(answers, wrong, read, most=4, seconds=8.0)
    assert section is not None
    assert len(asked) == 12
    assert all(0 <= start < end <= start + 8.001 for _, start, end in asked)
    strips = [part for part in section.parts if isinstance(part, Examples)]
    assert [len(part.items) for part in strips] == [3, 4, 4]
    for part in strips:
        for item in part.items:
            assert sum(mark.wrong for mark in item.marks) == 1
    heads = [part.text for part in section.parts if isinstance(part, Prose)]
    assert f"4 of {wrong.filter(kind='miss').height:,}" in heads[1]
    page = Report("x", sections=[section]).html()
    places = re.findall(r'class="event[^"]*" style="left: ([\d.]+)%; right: ([\d.]+)%', page)
    assert places
    assert all(float(left) + float(right) <= 100.01 for left, right in places)


def test_labels_of_events_are_escaped() -> None:
    answers = world(4, recordings=2)
    evil = "<script>alert(1)</script>"
    renamed = answers.only(answers.paths)
    table = renamed.found.with_columns(label=pl.lit(evil))
    from sonoformer.evaluation.events.answers import EventAnswers

    answers = EventAnswers(renamed.truth, table, renamed.seconds)
    card = event_scorecard(answers, resamples=5)
    section = sections.errors(
        answers, mistakes(answers), lambda *_: (np.zeros(4000, np.float32), 4000)
    )
    assert section is not None
    page = Report("x", sections=[sections.result(card), sections.tables(card), section]).html()
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_a_cut_is_the_stretch_of_the_recording(tmp_path: Path) -> None:
    wave = np.linspace(-0.5, 0.5, 8000).astype(np.float32)
    write(tmp_path / "a.wav", wave, 4000)
    found, rate = cut(str(tmp_path / "a.wav"), 0.5, 1.0)
    assert rate == 4000
    assert np.abs(found - wave[2000:4000]).max() < 1e-4
