"""Sections: the worst errors are the worst, the confusions the commonest, empty ones are absent."""

from __future__ import annotations

import numpy as np

from sonoformer.evaluation import sections
from sonoformer.evaluation.metrics import Answers
from sonoformer.evaluation.report import Report
from sonoformer.evaluation.scorecard import scorecard
from sonoformer.evaluation.statistics import t_interval


def read(row: int) -> tuple[np.ndarray, int]:
    return np.zeros(1600, np.float32) + row / 100, 16_000


def single() -> Answers:
    truth = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array(
        [[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2]], np.float32
    )
    clips = [f"{i}.wav" for i in range(6)]
    return Answers(("frog", "owl"), scores, np.eye(2)[truth] > 0, True, clips=clips)


def test_worst_errors_are_wrong_and_ordered_by_how_sure_the_model_was() -> None:
    assert sections.worst(single(), 12).tolist() == [2, 5, 1]
    assert sections.worst(single(), 2).tolist() == [2, 5]


def test_worst_errors_of_multi_label_answers_heed_what_is_known() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.1], [0.1, 0.3], [0.2, 0.1]], np.float32)
    targets = np.array([[0, 0], [0, 0], [0, 1], [0, 0]], bool)
    known = np.array([[0, 1], [1, 1], [1, 1], [1, 1]], bool)
    answers = Answers(("frog", "owl"), scores, targets, False, known=known)
    assert sections.worst(answers, 12).tolist() == [1, 2]
    section = sections.errors({"": answers}, read)
    assert section is not None
    [first, second] = section.parts[0].items  # type: ignore[union-attr]
    assert [(v.label, v.right) for v in first.verdicts] == [("frog", False)]
    assert first.truth == "none of the classes"
    assert [(v.label, v.right) for v in second.verdicts] == [("not owl", False)]


def test_two_systems_are_shown_for_the_same_clips() -> None:
    good = single()
    perfect = Answers(good.classes, good.targets.astype(np.float32), good.targets, True)
    section = sections.errors({"new": good, "old": perfect}, read)
    assert section is not None
    [first, *_] = section.parts[0].items  # type: ignore[union-attr]
    assert first.name == "2.wav"
    assert first.wave[0] == np.float32(0.02)
    assert [(v.system, v.label, v.right) for v in first.verdicts] == [
        ("new", "owl", False),
        ("old", "frog", True),
    ]
    assert sections.errors({"old": perfect}, read) is None


def test_confusions_are_the_commonest_errors() -> None:
    matrix = np.array([[5, 3, 0], [1, 7, 0], [0, 2, 0]])
    rows = sections.confusions(matrix, ["a", "b", "c"], most=2)
    assert [(r["true"], r["predicted"], r["clips"]) for r in rows] == [("a", "b", 3), ("c", "b", 2)]
    assert rows[0]["share"] == 3 / 8


def test_a_whole_report_of_a_cross_validation() -> None:
    cards = {name: scorecard(single(), resamples=50) for name in ("fold 1", "fold 2")}
    values = {n: [c.figures[n].value for c in cards.values()] for n in cards["fold 1"].figures}
    over = {name: t_interval(v, "folds") for name, v in values.items()}
    history = [
        {"step": 1, "epoch": 0.5, "train/loss": 2.0, "train/grad_norm": 1.0, "lr": 0.1},
        {"step": 2, "epoch": 1.0, "train/loss": 1.0, "valid/loss": 1.5, "lr": 0.1},
    ]
    trained = sections.training(history)
    assert trained is not None
    report = Report("Frogs")
    for section in (
        sections.result(cards["fold 1"]),
        sections.trainings(cards, over),
        trained,
        sections.classes(cards["fold 1"]),
        sections.settings({"seed": 1}, {"torch": "2"}, [("a.wav", "is empty")]),
    ):
        report.add(section)
    page = report.html()
    for text in ("fold 2", "validation", "frog", "a.wav", "is empty", "seed: 1"):
        assert text in page
    assert "grad norm" not in page


def test_without_curves_there_is_no_section() -> None:
    assert sections.training([]) is None
    assert sections.training([{"step": 1, "epoch": 1.0, "lr": 0.1}]) is None
