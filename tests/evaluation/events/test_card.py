"""The scorecard: figures, intervals, folds, frames; nothing to say is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from tests.evaluation.events.worlds import NAMES, table, world

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.card import EVENT_TITLES, event_scorecard
from sonoformer.evaluation.events.frames import FrameScores, frame_scores, with_truth
from sonoformer.evaluation.events.judged import EventScoring
from sonoformer.evaluation.events.mistakes import mistakes
from sonoformer.evaluation.events.psds import Scenario, psds


def frames_of(answers: EventAnswers, step: float = 0.2, seed: int = 0) -> list[FrameScores]:
    rng = np.random.default_rng(seed)
    result = []
    for path, seconds in answers.seconds.items():
        count = int(seconds / step)
        scores = rng.random((count, len(answers.classes))).astype(np.float32)
        one = with_truth(FrameScores(path, scores, step), answers)
        assert one.truth is not None
        raised = (0.4 * one.truth + 0.6 * scores).astype(np.float32)
        result.append(FrameScores(path, raised, step, truth=one.truth, known=one.known))
    return result


def test_every_figure_with_an_interval_around_it() -> None:
    answers = world(1)
    scoring = EventScoring(recall=0.6)
    card = event_scorecard(answers, frames=frames_of(answers), scoring=scoring, resamples=60)
    assert set(card.figures) == set(EVENT_TITLES)
    for name, figure in card.figures.items():
        assert figure.low is not None, name
        assert figure.low <= figure.value <= figure.high, name
        assert figure.over == "6 recordings"
    assert card.recordings == 6
    assert card.hours == pytest.approx(0.2)
    assert [row["class"] for row in card.per_class] == list(NAMES)
    assert card.per_class[2]["event_f1"] is None
    assert len(card.per_recording) == 6
    assert sum(int(row["events"]) for row in card.per_recording) == card.events
    assert "trumpet" in card.notes[0]
    json.dumps(card.to_dict(), allow_nan=False)


def test_the_interval_covers_what_many_recordings_have() -> None:
    truth = event_scorecard(world(2, recordings=120, error=0.12), resamples=10)
    inside = 0
    for seed in range(6):
        figure = event_scorecard(world(100 + seed, error=0.12), resamples=60).figures["event_f1"]
        inside += figure.low < truth.figures["event_f1"].value < figure.high
    assert inside >= 4


def test_folds_are_scored_one_by_one() -> None:
    answers = world(3)
    folds = {path: f"fold{i % 3}" for i, path in enumerate(answers.paths)}
    card = event_scorecard(answers, folds=folds, resamples=5)
    assert [row["fold"] for row in card.folds] == ["fold0", "fold1", "fold2"]
    own = event_scorecard(answers.only(["0.wav", "3.wav"]), resamples=5)
    assert card.folds[0]["event_f1"] == pytest.approx(own.figures["event_f1"].value)
    values = [row["event_f1"] for row in card.folds]
    assert card.over_folds["event_f1"].value == pytest.approx(np.mean(values))
    assert card.over_folds["event_f1"].over == "3 folds"
    with pytest.raises(UserError, match="in no fold"):
        event_scorecard(answers, folds={"0.wav": "a"})


def test_groups_are_drawn_as_a_whole() -> None:
    base = world(4)
    groups = {path: "north" if i < 3 else "south" for i, path in enumerate(base.paths)}
    answers = EventAnswers(base.truth, base.found, base.seconds, NAMES, groups=groups)
    card = event_scorecard(answers, resamples=50)
    assert card.figures["event_f1"].over == "2 groups"
    lone = EventAnswers(
        base.truth, base.found, base.seconds, NAMES, groups=dict.fromkeys(groups, "x")
    )
    card = event_scorecard(lone, resamples=50)
    assert card.figures["event_f1"].low is None
    assert "There is one group only, so that no interval can be given." in card.notes


def test_frames_as_scikit_learn_scores_them() -> None:
    answers = world(5, recordings=2)
    stretch = table([("0.wav", 10.0, 60.0, "", 0), ("1.wav", 0.0, 100.0, "", 0)])
    answers = EventAnswers(
        answers.truth, answers.found, answers.seconds, NAMES, reviewed=stretch.drop("label")
    )
    frames = frames_of(answers)
    precision, area = (part[0] for part in frame_scores(frames, 3))
    for label in range(2):
        known = np.concatenate([one.known[:, label] for one in frames])  # type: ignore[index]
        truth = np.concatenate([one.truth[:, label] for one in frames])[known]  # type: ignore[index]
        scores = np.concatenate([one.scores[:, label] for one in frames])[known]
        assert 0 < known.sum() < len(known)
        assert precision[label] == pytest.approx(average_precision_score(truth, scores))
        assert area[label] == pytest.approx(roc_auc_score(truth, scores))
    assert np.isnan(precision[2])
    assert np.isnan(area[2])
    again = frame_scores(frames, 3, np.ones((1, 2)))
    assert again[0][0, :2] == pytest.approx(precision[:2], abs=1e-3)
    with pytest.raises(ValueError, match="truth"):
        frame_scores([FrameScores("a", frames[0].scores, 0.2)], 3)


def test_a_frame_is_true_where_half_of_it_is_covered() -> None:
    rows = [("a", 0.5, 1.2, "roar", 1), ("a", 1.1, 1.4, "roar", 1), ("a", 2.6, 3.0, "roar", 1)]
    answers = EventAnswers(table(rows), table([]), {"a": 4.0}, ("roar",))
    one = with_truth(FrameScores("a", np.zeros((4, 1), np.float32), 1.0), answers)
    assert one.truth is not None
    assert one.truth[:, 0].tolist() == [True, False, False, False]
    one = with_truth(FrameScores("a", np.zeros((4, 1), np.float32), 1.0), answers, cover=0.4)
    assert one.truth is not None
    assert one.truth[:, 0].tolist() == [True, True, True, False]


def test_a_perfect_detector_and_one_that_finds_nothing() -> None:
    answers = world(6)
    right = EventAnswers(answers.truth, answers.truth, answers.seconds, NAMES[:2])
    card = event_scorecard(right, resamples=20)
    assert card.figures["event_f1"].value == card.figures["intersection_f1"].value == 1
    assert card.figures["segment_error_rate"].value == card.figures["onset_error"].value == 0
    assert mistakes(right).is_empty()
    nothing = EventAnswers(answers.truth, answers.found.clear(), answers.seconds, NAMES[:2])
    card = event_scorecard(nothing, resamples=20)
    assert card.figures["event_f1"].value == card.figures["psds1"].value == 0
    assert "onset_error" not in card.figures
    assert "false_alarms_per_hour" not in card.figures
    assert "Nothing was found." in card.notes
    assert mistakes(nothing)["kind"].unique().to_list() == ["miss"]
    with pytest.raises(UserError, match="no true event"):
        event_scorecard(EventAnswers(answers.truth.clear(), answers.found, answers.seconds))


def test_without_scores_there_are_no_curves() -> None:
    answers = world(7)
    bare = EventAnswers(answers.truth, answers.found.drop("score"), answers.seconds, NAMES)
    card = event_scorecard(bare, resamples=20)
    assert not {"psds1", "event_ap", "false_alarms_per_hour"} & set(card.figures)
    assert any("no scores" in note for note in card.notes)


def test_psds_of_a_perfect_detector_is_one_and_falls_with_false_alarms() -> None:
    answers = world(8, recordings=30)
    perfect = EventAnswers(
        answers.truth, answers.truth.with_columns(score=1.0), answers.seconds, NAMES[:2]
    )
    assert psds(perfect) == pytest.approx(1)
    worse = psds(answers, Scenario(alpha_st=0.0))
    assert 0 < worse < 1
    assert psds(answers, Scenario(alpha_st=1.0)) <= worse


def test_mistakes_are_named_and_sorted() -> None:
    true = [("a", 1.0, 3.0, "owl", 1), ("a", 10.0, 13.0, "owl", 1), ("a", 20.0, 21.0, "owl", 1)]
    said = [
        ("a", 1.9, 3.0, "owl", 0.9),
        ("a", 30.0, 31.0, "owl", 0.4),
        ("a", 40.0, 41.0, "owl", 0.6),
        ("a", 10.0, 13.1, "owl", 0.8),
    ]
    found = mistakes(EventAnswers(table(true), table(said), {"a": 60.0}))
    assert found["kind"].to_list() == ["false alarm", "false alarm", "miss", "bad end"]
    assert found["score"].to_list() == [0.6, 0.4, None, 0.9]
    assert found["start"].to_list() == [40.0, 30.0, 20.0, 1.9]
    assert found["onset_error"][3] == pytest.approx(0.9)


def test_rules_are_checked() -> None:
    for bad in ({"recall": 0.0}, {"collar": -1.0}, {"segment": 0.0}, {"offset_share": 2.0}):
        with pytest.raises(UserError, match=next(iter(bad))):
            EventScoring(**bad)
