"""Answers taken apart, renamed and put together again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tests.evaluation.events.worlds import world

from sonoformer.data.events import STRETCHES
from sonoformer.evaluation.events.answers import EventAnswers, joined
from sonoformer.evaluation.events.card import event_scorecard
from sonoformer.evaluation.events.judged import Judged, measures


def reviewed(answers: EventAnswers) -> EventAnswers:
    """The same, of which only the first minute of every second recording was reviewed."""
    rows = [(path, 0.0, 60.0 if number % 2 else None) for number, path in enumerate(answers.paths)]
    return replace(answers, reviewed=pl.DataFrame(rows, STRETCHES, orient="row"))


def figures(answers: EventAnswers) -> dict[str, float]:
    judged = Judged(answers)
    return {name: float(measure(judged, None)[0]) for name, measure in measures(judged).items()}


@pytest.mark.parametrize("partly", [False, True])
def test_parts_put_together_are_the_whole(partly: bool) -> None:
    whole = reviewed(world(0)) if partly else world(0)
    first, second = whole.paths[:4], whole.paths[4:]
    again = joined([whole.only(first), whole.only(second)])
    assert again.paths == whole.paths
    assert figures(again) == figures(whole)
    np.testing.assert_array_equal(again.lengths, whole.lengths)


def test_reviewed_stretches_of_one_part_leave_the_other_whole() -> None:
    first, second = reviewed(world(0, prefix="a")), world(1, prefix="b")
    both = joined([first, second])
    np.testing.assert_array_equal(both.lengths, [*first.lengths, *second.lengths])
    assert len(both.true.item) == len(first.true.item) + len(second.true.item)


@pytest.mark.parametrize("partly", [False, True])
def test_names_change_nothing(partly: bool) -> None:
    before = reviewed(world(2)) if partly else world(2)
    grouped = replace(before, groups={p: f"site {i % 3}" for i, p in enumerate(before.paths)})
    after = grouped.renamed({path: f"{path} (again)" for path in grouped.paths})
    assert figures(after) == figures(grouped)
    assert list(after.groups.values()) == list(grouped.groups.values())


def test_one_recording_heard_twice_is_drawn_once() -> None:
    """A second identical hearing narrows no interval where both are drawn together."""
    once = world(3)
    twice = once.renamed({path: f"{path} (again)" for path in once.paths})
    groups = {path: path.removesuffix(" (again)") for path in (*once.paths, *twice.paths)}
    one = event_scorecard(once, resamples=200).figures["event_f1"]
    together = event_scorecard(joined([once, twice], groups), resamples=200).figures["event_f1"]
    apart = event_scorecard(joined([once, twice]), resamples=200).figures["event_f1"]
    assert together.value == pytest.approx(one.value)
    assert together.high - together.low == pytest.approx(one.high - one.low, rel=0.1)
    assert apart.high - apart.low < 0.9 * (one.high - one.low)
