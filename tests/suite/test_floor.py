"""The floor."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sonoformer.errors import UserError
from sonoformer.suite import SUITE, SuiteConfig
from sonoformer.suite.floor import RATE, mel_statistics, svm_turn
from sonoformer.suite.lesson import Lesson
from sonoformer.suite.opening import open_task


class Louder:
    """A source at twice the level."""

    def __init__(self, source: object) -> None:
        self.source = source
        self.sample_rate, self.lengths = source.sample_rate, source.lengths  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        found = self.source.read(index, start, count)  # type: ignore[attr-defined]
        return (2 * found.astype(np.float32) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def lesson(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    opened = open_task(
        SUITE["drum-hits"],
        "folds",
        data,
        tmp_path_factory.mktemp("cache"),
        problem=lambda *_: None,
        progress=None,
    )
    assert not isinstance(opened, str)
    return opened.lesson(RATE)


def test_level_says_nothing(lesson: Lesson) -> None:
    source = lesson.clips.source
    quiet, loud = (mel_statistics(s, SuiteConfig()) for s in (source, Louder(source)))  # type: ignore[arg-type]
    assert quiet.shape == (len(lesson.clips), 384)
    assert np.abs(quiet - loud).max() < 0.02


def test_scores_are_shares_and_right(lesson: Lesson) -> None:
    features = mel_statistics(lesson.clips.source, SuiteConfig())
    turn = lesson.turns[0]
    scores = svm_turn(features, lesson, turn, 0)
    assert scores.sum(1) == pytest.approx(1, abs=1e-5)
    assert (scores.argmax(1) == lesson.targets[turn.test].argmax(1)).mean() > 0.6


def test_without_scikit_learn_it_says_what_to_install(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.pipeline", None)
    with pytest.raises(UserError, match=r"sonoformer\[train\]"):
        svm_turn(np.zeros((len(lesson.clips), 384), np.float32), lesson, lesson.turns[0], 0)
