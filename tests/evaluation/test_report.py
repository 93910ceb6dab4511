"""The report: one file, nothing from outside, nothing unescaped, no larger than promised."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sonoformer.evaluation.metrics import Answers
from sonoformer.evaluation.plots import confusion
from sonoformer.evaluation.report import (
    Code,
    Columns,
    Example,
    Examples,
    Figures,
    Mark,
    Plot,
    Prose,
    Report,
    Section,
    Table,
    Verdict,
)
from sonoformer.evaluation.scorecard import scorecard

EVIL = "<script>alert('x')</script>"


def card(names: tuple[str, ...] = ("frog", "owl")):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    targets = np.eye(2)[np.arange(30) % 2] > 0
    scores = rng.dirichlet((1, 1), 30).astype(np.float32)
    return scorecard(Answers(names, scores, targets, True), resamples=50)


def example(name: str = "a.wav", seconds: float = 1.0) -> Example:
    samples = int(16_000 * seconds)
    wave = 0.5 * np.sin(np.arange(samples) / 5).astype(np.float32)
    return Example(name, "frog", [Verdict("owl", 0.9, False, "new")], wave, 16_000)


def full() -> Report:
    scores = card()
    report = Report("Frogs", "five sites")
    report.add(Section("Result", [Figures.of(scores), Prose("One.\n\nTwo.", "good")], lead="Lead"))
    report.add(
        Section(
            "Systems",
            [
                Columns([("new", [Figures.of(scores)]), ("old", [Prose("none")])], systems=True),
                Plot(confusion(scores.confusion, scores.classes), "Rows are true."),
                Table.of(scores.per_class, shares=["recall"]),
            ],
        )
    )
    report.add(Section("Errors", [Examples([example()])]))
    return report.add(Section("Settings", [Code("seed: 1", "Configuration")]))


class Tags(HTMLParser):
    """Every tag closes in order, and every address is inside the file."""

    void = frozenset({"meta", "img", "br", "use", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_one_file_with_everything_and_nothing_from_outside(tmp_path: Path) -> None:
    path = full().write(tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    assert parser.addresses
    assert all(a.startswith(("data:", "#")) for a in parser.addresses)
    for text in ("Frogs", "five sites", "Accuracy", "30 clips", "Rows are true.", "seed: 1"):
        assert text in page


def test_sound_in_the_page_is_the_sound() -> None:
    page = full().html()
    [data] = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    assert rate == 16_000
    assert np.abs(wave - example().wave).max() < 1e-4


def test_text_from_data_is_escaped_everywhere() -> None:
    scores = card((EVIL, "owl"))
    report = Report(EVIL, EVIL)
    report.add(
        Section(
            EVIL,
            [
                Prose(EVIL),
                Code(EVIL, EVIL),
                Table([EVIL], [[EVIL]], caption=EVIL, fold=EVIL),
                Plot(confusion(scores.confusion, scores.classes), EVIL),
                Examples([Example(EVIL, EVIL, [Verdict(EVIL, 1, True, EVIL)], *audio())], EVIL),
                Columns([(EVIL, [])]),
            ],
            lead=EVIL,
        )
    )
    page = report.html()
    assert EVIL not in page
    assert page.count("<script>") == 1


def audio() -> tuple[np.ndarray, int]:
    return np.zeros(100, np.float32), 16_000


def test_size_is_bounded_and_what_is_left_out_is_said() -> None:
    report = Report("Many", max_bytes=400_000)
    report.add(Section("Errors", [Examples([example(f"{i}.wav", 4) for i in range(20)])]))
    page = report.html()
    assert len(page.encode()) < 400_000
    assert 0 < page.count("data:audio/wav") < 20
    assert page.count("the report has reached its size") == 20 - page.count("data:audio/wav")
    assert "19.wav" in page


def test_long_clips_are_cut_and_say_so() -> None:
    page = Report("x").add(Section("y", [Examples([example(seconds=3)], seconds=2)])).html()
    assert "2.0 s of 3.0 s" in " ".join(page.split())


def test_an_undefined_cell_is_a_dash_and_sorts_as_nothing() -> None:
    page = Report("x").add(Section("y", [Table(["recall"], [[None], [0.5]])])).html()
    assert 'data-value="">–</td>' in page
    assert 'data-value="0.5">0.500</td>' in page


@pytest.mark.parametrize("rows", [[], [["only"]]])
def test_small_tables(rows: list[list[str]]) -> None:
    assert "<table>" in Report("x").add(Section("y", [Table(["a"], rows)])).html()


def test_marks_lie_where_they_should_and_beside_each_other() -> None:
    marks = [
        Mark(-1.0, 0.5, "early", True),
        Mark(0.25, 3.0, "late", True, wrong=True),
        Mark(0.5, 0.75, "third", True),
        Mark(0.2, 0.4, EVIL, False),
        Mark(1.0, 2.0, "outside", False),
    ]
    wave = np.zeros(16_000, np.float32)
    shown = Example("a.wav", "frog", [Verdict("owl", None, False)], wave, 16_000, marks)
    page = Report("x", sections=[Section("s", [Examples([shown])])]).html()
    found = re.findall(
        r'class="event([^"]*)" style="left: (.*?); right: (.*?); --lane: (\d)"', page
    )
    assert found == [
        (" true", "0.00%", "50.00%", "0"),
        (" true wrong", "25.00%", "0.00%", "1"),
        (" true", "50.00%", "25.00%", "0"),
        ("", "20.00%", "60.00%", "0"),
    ]
    assert EVIL not in page
