"""Metrics: equal to scikit-learn, clip counts equal to repeated clips, nothing ever NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import (
    MULTI,
    SINGLE,
    Answers,
    absent,
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    confusion_matrix,
    joined,
    macro_f1,
    mean_average_precision,
    per_class,
    score,
)

NAMES = ("frog", "owl", "rain", "wind")


def single(seed: int, clips: int = 40, classes: int = 4, ties: bool = True) -> Answers:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, clips)
    truth[:classes] = np.arange(classes)
    scores = rng.dirichlet(np.ones(classes), clips) + 0.4 * np.eye(classes)[truth]
    scores = scores / scores.sum(1, keepdims=True)
    if ties:
        scores = scores.round(1)
    return Answers(NAMES[:classes], scores.astype(np.float32), np.eye(classes)[truth] > 0, True)


def multi(seed: int, clips: int = 50, hidden: float = 0.3) -> Answers:
    rng = np.random.default_rng(seed)
    targets = rng.random((clips, 4)) < 0.3
    scores = (0.3 * targets + 0.7 * rng.random((clips, 4))).round(1).astype(np.float32)
    return Answers(NAMES, scores, targets, False, known=rng.random((clips, 4)) > hidden)


@pytest.mark.parametrize("seed", range(5))
def test_single_label_scores_equal_scikit_learn(seed: int) -> None:
    answers = single(seed)
    truth, predicted = answers.truth, answers.predicted
    assert score(accuracy, answers) == pytest.approx(reference.accuracy_score(truth, predicted))
    assert score(balanced_accuracy, answers) == pytest.approx(
        reference.balanced_accuracy_score(truth, predicted)
    )
    assert score(macro_f1, answers) == pytest.approx(
        reference.f1_score(truth, predicted, average="macro", labels=np.unique(truth))
    )
    assert (confusion_matrix(answers) == reference.confusion_matrix(truth, predicted)).all()


@pytest.mark.parametrize("seed", range(5))
def test_ranked_scores_equal_scikit_learn_on_known_cells_with_ties(seed: int) -> None:
    answers = multi(seed)
    ones = np.ones((1, len(answers)), np.float32)
    ap, area = average_precision(answers, ones)[0], auc(answers, ones)[0]
    for c in range(4):
        rows = answers.known[:, c]
        y, s = answers.targets[rows, c], answers.scores[rows, c]
        assert ap[c] == pytest.approx(reference.average_precision_score(y, s))
        assert area[c] == pytest.approx(reference.roc_auc_score(y, s))
    table = per_class(answers)
    for c, row in enumerate(table):
        rows = answers.known[:, c]
        p, r, f, _ = reference.precision_recall_fscore_support(
            answers.targets[rows, c], answers.scores[rows, c] >= 0.5, average="binary"
        )
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((p, r, f))


@pytest.mark.parametrize("name", sorted({*SINGLE, *MULTI}))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_counts_mean_repeated_clips(name: str, seed: int) -> None:
    """The one property the bootstrap rests on."""
    for answers, family in ((single(seed), SINGLE), (multi(seed), MULTI)):
        if name not in family:
            continue
        counts = np.random.default_rng(seed).integers(0, 4, (3, len(answers)))
        weighted = family[name](answers, counts.astype(np.float32))
        for row, value in zip(counts, weighted, strict=True):
            repeated = answers.rows(np.repeat(np.arange(len(answers)), row))
            plain = family[name](repeated, np.ones((1, len(repeated)), np.float32))[0]
            assert value == pytest.approx(plain, nan_ok=True)


def test_a_class_without_clips_is_named_and_left_out() -> None:
    whole = single(0)
    answers = whole.rows(whole.truth != 2)
    assert absent(answers) == ["rain"]
    for name, metric in SINGLE.items():
        value = score(metric, answers)
        assert 0 < value <= 1, name
    row = per_class(answers)[2]
    assert row["clips"] == 0
    assert row["recall"] is None
    assert row["average_precision"] is None


def test_unlabelled_is_not_negative() -> None:
    """A high score where nobody looked costs nothing; where someone looked it does."""
    targets = np.array([[True], [False], [False]])
    scores = np.array([[0.6], [0.9], [0.1]], np.float32)
    seen = Answers(("owl",), scores, targets, False)
    unseen = Answers(("owl",), scores, targets, False, known=np.array([[True], [False], [True]]))
    assert score(mean_average_precision, seen) == pytest.approx(0.5)
    assert score(mean_average_precision, unseen) == pytest.approx(1.0)
    assert per_class(seen)[0]["precision"] == pytest.approx(0.5)
    assert per_class(unseen)[0]["precision"] == pytest.approx(1.0)


def test_a_positive_is_known_whatever_the_mask_says() -> None:
    targets = np.array([[True], [False]])
    answers = Answers(
        ("owl",), np.array([[0.2], [0.1]], np.float32), targets, False, known=np.zeros((2, 1), bool)
    )
    assert answers.known.tolist() == [[True], [False]]


def test_thresholds_decide_multi_label_predictions() -> None:
    answers = Answers(
        ("owl", "frog"),
        np.array([[0.3, 0.6], [0.1, 0.2]], np.float32),
        np.array([[True, True], [False, False]]),
        False,
        thresholds=np.array([0.25, 0.7], np.float32),
    )
    assert answers.decided.tolist() == [[True, False], [False, False]]


def test_scores_that_are_not_finite_name_the_clip() -> None:
    scores = np.array([[0.5, 0.5], [np.nan, 0.1]], np.float32)
    with pytest.raises(UserError, match=r"1 of 2 clips.*b\.wav.*diverged"):
        Answers(("x", "y"), scores, np.eye(2) > 0, True, clips=("a.wav", "b.wav"))


def test_no_labelled_clip_is_said() -> None:
    answers = Answers(("x", "y"), np.ones((2, 2), np.float32), np.zeros((2, 2), bool), True)
    with pytest.raises(UserError, match="no labelled clip"):
        score(accuracy, answers)


def test_folds_with_other_classes_do_not_join() -> None:
    a = single(0)
    b = Answers(("a", "b", "c", "d"), a.scores, a.targets, True)
    assert len(joined([a, a])) == 2 * len(a)
    with pytest.raises(UserError, match="different classes"):
        joined([a, b])
