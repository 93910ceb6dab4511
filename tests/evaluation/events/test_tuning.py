"""Tuning finds what the scores were made with, and what it reports is what the events give."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.collars import by_collars
from sonoformer.evaluation.events.frames import FrameScores
from sonoformer.evaluation.events.intersection import Criteria, by_intersection
from sonoformer.evaluation.events.outcomes import class_f1
from sonoformer.evaluation.events.post import ClassPost, PostConfig
from sonoformer.evaluation.events.stream import events_of_frames
from sonoformer.evaluation.events.tuning import Grid, Rule, Tuned, tune

NAMES = ("roar", "rumble", "never")
STEP = 0.1
SMALL = Grid(
    median=(0.0, 0.3), high=(0.2, 0.4, 0.6), low=(0.5, 1.0), gap=(0.0, 0.5), shortest=(0.0, 0.3)
)


def recordings(seed: int, noise: float = 0.15) -> tuple[list[FrameScores], pl.DataFrame]:
    rng = np.random.default_rng(seed)
    frames, rows = [], []
    for number in range(4):
        scores = rng.random((600, 3)) * noise
        for column, name in enumerate(NAMES[:2]):
            for start in np.arange(5, 50, 9) + rng.random():
                end = start + rng.uniform(1, 4)
                rows.append((f"{number}.wav", start, end, name))
                centres = (np.arange(600) + 0.5) * STEP
                inside = (centres >= start) & (centres < end)
                scores[inside, column] += 0.35
        scores[rng.random((600, 3)) < 0.01] += 0.5
        frames.append(FrameScores(f"{number}.wav", np.clip(scores, 0, 1).astype(np.float32), STEP))
    schema = ["path", "start", "end", "label"]
    return frames, pl.DataFrame(rows, schema=schema, orient="row")


def found(frames: list[FrameScores], config: PostConfig) -> pl.DataFrame:
    return pl.concat(
        events_of_frames(one.scores, one.step, config, NAMES, path=one.path, end=one.seconds)
        for one in frames
    )


def f1(
    frames: list[FrameScores], truth: pl.DataFrame, config: PostConfig, rule: Rule
) -> np.ndarray:
    seconds = {one.path: one.seconds for one in frames}
    answers = EventAnswers(truth, found(frames, config), seconds, NAMES)
    if rule.goal == "event_f1":
        return class_f1(by_collars(answers, rule.collar, rule.share))[0]
    return class_f1(by_intersection(answers, rule.criteria).outcomes)[0]


RULES = [Rule(), Rule("intersection_f1", criteria=Criteria(0.7, 0.7))]


@pytest.fixture(scope="module", params=[0, 1])
def case(request: pytest.FixtureRequest) -> tuple[Rule, list[FrameScores], pl.DataFrame, Tuned]:
    frames, truth = recordings(3)
    rule = RULES[request.param]
    return rule, frames, truth, tune(frames, truth, NAMES, rule=rule, grid=SMALL)


def test_the_scores_reported_are_those_of_the_events(case) -> None:  # type: ignore[no-untyped-def]
    rule, frames, truth, tuned = case
    rows = tuned.candidates.filter(label="roar")
    assert rows.height == 2 * 3 * 2 * 2 * 2
    for row in rows[::7].iter_rows(named=True):
        post = ClassPost(
            median=row["median"],
            high=row["high"],
            low=row["low"],
            gap=row["gap"],
            shortest=row["shortest"],
        )
        assert f1(frames, truth, PostConfig(post), rule)[0] == pytest.approx(row["score"])


def test_the_choice_is_the_best_and_better_than_the_defaults(case) -> None:  # type: ignore[no-untyped-def]
    rule, frames, truth, tuned = case
    best = tuned.candidates.group_by("label").agg(pl.col("score").max())
    chosen = tuned.candidates.filter("chosen")
    assert chosen.height == 2
    assert dict(best.iter_rows()) == dict(chosen.select("label", "score").iter_rows())
    before, after = f1(frames, truth, PostConfig(), rule), f1(frames, truth, tuned.config, rule)
    assert (after[:2] > before[:2] + 0.3).all()
    assert (after[:2] > 0.9).all()


def test_a_class_without_events_keeps_the_defaults(case) -> None:  # type: ignore[no-untyped-def]
    tuned = case[3]
    assert tuned.config.of("never") == ClassPost()
    assert tuned.notes == ("never: no validation recording holds it; it keeps the defaults.",)


def test_equal_candidates_the_one_that_does_least_in_the_middle() -> None:
    scores = np.zeros((100, 1), np.float32)
    scores[20:60] = 1
    truth = pl.DataFrame({"path": ["a"], "start": [2.0], "end": [6.0], "label": ["x"]})
    config = tune([FrameScores("a", scores, 0.1)], truth, ("x",)).config
    assert config.of("x") == ClassPost(high=0.5, low=0.375)


def test_unreviewed_stretches_do_not_count() -> None:
    scores = np.zeros((100, 1), np.float32)
    scores[20:40], scores[60:90] = 0.6, 0.8
    truth = pl.DataFrame({"path": ["a"], "start": [2.0], "end": [4.0], "label": ["x"]})
    reviewed = pl.DataFrame({"path": ["a"], "start": [0.0], "end": [5.0]})
    frames = [FrameScores("a", scores, 0.1)]
    assert tune(frames, truth, ("x",)).candidates["score"].max() < 0.7
    assert tune(frames, truth, ("x",), reviewed=reviewed).candidates["score"].max() == 1


def test_bad_input_is_a_sentence() -> None:
    _, truth = recordings(0)
    with pytest.raises(UserError, match="one frame step"):
        tune([], truth, NAMES)
    with pytest.raises(UserError, match="low"):
        Grid(low=(1.5,))
    with pytest.raises(UserError, match="gap"):
        Grid(gap=())
