"""Pictures: text stays text, ids stay apart, the spectrogram shows the sound where it is."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from sonoformer.evaluation import plots
from sonoformer.evaluation.statistics import Interval

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def line() -> plots.Picture:
    return plots.curves({"a $x$ & <b>": ([0, 1], [1.0, 2.0])}, x_label="step", y_label="loss")


def test_names_are_text_and_neither_markup_nor_formulas() -> None:
    svg = plots.confusion(np.eye(2, dtype=np.int64), ["$a_b$ & <i>", "line\nbreak"]).svg()
    assert "$a_b$ &amp; &lt;i&gt;" in svg
    assert "line break" in svg
    assert "<i>" not in svg


def test_svg_takes_the_colours_of_its_page() -> None:
    svg = line().svg()
    assert f"var(--series-1, {plots.SERIES[0]})" in svg
    assert re.search(r"(?<!, )#(0072b2|1b2127|5d6873)", svg) is None
    assert "<?xml" not in svg


def test_ids_of_two_figures_on_a_page_differ() -> None:
    first = line().svg()
    second = plots.curves({"b": ([0, 1], [2.0, 1.0])}, x_label="x", y_label="y").svg()
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= own


def test_drawing_twice_gives_the_same_bytes() -> None:
    assert line().svg() == line().svg()
    assert line().png() == line().png()


def test_bars_leave_out_what_has_no_value_or_no_interval() -> None:
    values = [Interval(0.5, 0.4, 0.6), Interval(0.2), None]
    svg = plots.bars(["x", "y", "z"], {"one": values, "two": values}, x_label="recall").svg()
    # One line for the interval of "x" in each system, and none else.
    assert svg.count("stroke-width: 1.3") == 2


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_lies_at_its_tick(hertz: float) -> None:
    picture = plots.mel_picture(tone(hertz), RATE).astype(float)
    height = 1 - (picture.mean(1).argmax() + 0.5) / len(picture)
    assert height == pytest.approx(plots._mel(hertz) / plots._mel(RATE / 2), abs=0.02)


def test_time_runs_from_left_to_right() -> None:
    wave = np.concatenate([np.zeros(RATE, np.float32), tone(1000)])
    picture = plots.mel_picture(wave, RATE).astype(float)
    half = picture.shape[1] // 2
    assert picture[:, half + 10 :].max() == 255
    assert picture[:, : half - 20].max() == 0


@pytest.mark.parametrize("samples", [0, 1, 100, 16_000])
def test_silent_and_tiny_clips_have_a_picture(samples: int) -> None:
    image = Image.open(io.BytesIO(plots.spectrogram_png(np.zeros(samples, np.float32), RATE)))
    assert image.size == (560, 96)
    assert np.asarray(image.convert("L")).max() < 5


@pytest.mark.parametrize("rate", [2000, 8000, 16_000, 96_000])
def test_ticks_do_not_touch(rate: int) -> None:
    places = [place for _, place in plots.frequency_ticks(rate)]
    assert len(places) >= 2
    assert min(np.diff([0, *places, 1])) > 0.04
