"""Rules of matching: equal to brute force, on any events and at every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from tests.evaluation.events.worlds import table, world

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.collars import by_collars, within
from sonoformer.evaluation.events.endpoints import endpoints, quantile
from sonoformer.evaluation.events.intersection import Criteria, by_intersection
from sonoformer.evaluation.events.outcomes import (
    average_precision,
    class_f1,
    false_alarms_per_hour,
    pooled_f1,
)
from sonoformer.evaluation.events.pairs import near_starts, overlapping
from sonoformer.evaluation.events.segments import by_segments

LENGTHS = {"a": 10.0, "b": 10.0}
Row = tuple[str, float, float, str, float]


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Up to a dozen events on a grid, overlapping as they like."""
    found = []
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, 36))
        lasts = draw(st.integers(1, 12))
        found.append(
            (
                draw(st.sampled_from("ab")),
                start / 4,
                min(10.0, (start + lasts) / 4),
                draw(st.sampled_from(("owl", "frog"))),
                draw(st.sampled_from((0.2, 0.5, 0.8))),
            )
        )
    return found


def answers(true: list[Row], said: list[Row]) -> EventAnswers:
    return EventAnswers(table(true), table(said), LENGTHS, ("frog", "owl"))


@settings(max_examples=25)
@given(rows(), rows())
def test_pairs_are_those_of_a_look_at_all(true: list[Row], said: list[Row]) -> None:
    both = answers(true, said)
    t, s = both.true, both.said
    i, j = np.meshgrid(np.arange(len(t.item)), np.arange(len(s.item)), indexing="ij")
    i, j = i.ravel(), j.ravel()
    here = t.item[i] == s.item[j]
    touch = here & (t.start[i] < s.end[j]) & (s.start[j] < t.end[i])
    same = t.label[i] == s.label[j]
    for any_class, wanted in ((True, touch), (False, touch & same)):
        found = zip(*overlapping(t, s, any_class=any_class), strict=True)
        assert sorted(found) == sorted(zip(i[wanted], j[wanted], strict=True))
    near = here & same & (np.abs(t.start[i] - s.start[j]) <= 0.5)
    assert set(zip(i[near], j[near], strict=True)) <= set(zip(*near_starts(t, s, 0.5), strict=True))


@settings(max_examples=25)
@given(rows(), rows())
def test_as_many_pairs_as_there_can_be_at_every_threshold(true: list[Row], said: list[Row]) -> None:
    found = by_collars(answers(true, said), 0.3, 0.5)
    for threshold in (0.2, 0.5, 0.8):
        kept = answers(true, [row for row in said if row[4] >= threshold])
        t, s = kept.true, kept.said
        i, j = near_starts(t, s, 0.3)
        keep = within(t, s, i, j, 0.3, 0.5)
        graph = csr_matrix(
            (np.ones(keep.sum()), (i[keep], j[keep])), shape=(len(t.item), len(s.item))
        )
        best = (maximum_bipartite_matching(graph) >= 0).sum() if graph.nnz else 0
        assert (found.hit & (found.score >= threshold)).sum() == best


def covered(start: float, end: float, spans: list[tuple[float, float]]) -> float:
    """Share of a stretch that others cover together, on the grid of a quarter second."""
    cells = np.arange(start, end, 0.25)
    inside = [any(s <= cell < e for s, e in spans) for cell in cells]
    return float(np.mean(inside))


@settings(max_examples=30)
@given(rows(), rows(), st.sampled_from((0.0, 0.3, 0.5, 1.0)), st.sampled_from((0.0, 0.5, 1.0)))
def test_intersections_are_those_of_cells_at_every_threshold(
    true: list[Row], said: list[Row], dtc: float, gtc: float
) -> None:
    found = by_intersection(answers(true, said), Criteria(dtc, gtc, 0.3))
    for threshold in (0.2, 0.5, 0.8):
        right, false, crossed = [], 0, 0
        for path, start, end, label, _ in (row for row in said if row[4] >= threshold):
            spans = [(r[1], r[2]) for r in true if r[0] == path and r[3] == label]
            share = covered(start, end, spans)
            if share >= dtc - 1e-9 and share > 0:
                right.append((path, start, end, label))
                continue
            false += 1
            other = "owl" if label == "frog" else "frog"
            spans = [(r[1], r[2]) for r in true if r[0] == path and r[3] == other]
            crossed += covered(start, end, spans) >= 0.3 - 1e-9
        hits = 0
        for path, start, end, label, _ in true:
            spans = [(r[1], r[2]) for r in right if r[0] == path and r[3] == label]
            share = covered(start, end, spans)
            hits += share >= gtc - 1e-9 and share > 0
        passed = found.outcomes.score >= threshold
        assert (found.outcomes.hit & passed).sum() == hits
        assert (~found.outcomes.hit & passed).sum() == false
        assert (found.triggers.score >= threshold).sum() == crossed


def test_what_lies_on_the_collar_is_within_it_unless_the_reference_is_asked_for() -> None:
    both = answers([("a", 2.0, 4.0, "owl", 1)], [("a", 2.2, 4.0, "owl", 1)])
    assert pooled_f1(by_collars(both, 0.2, 0.0))[0] == 1
    assert pooled_f1(by_collars(both, 0.2, 0.0, reference=True))[0] == 0
    both = answers([("a", 0.3, 0.4, "owl", 1)], [])
    assert by_segments(both, 0.1).misses.sum() == 1
    assert by_segments(both, 0.1, reference=True).misses.sum() == 2


def test_f1_precision_and_false_alarms_by_hand() -> None:
    true = [("a", 1.0, 2.0, "owl", 1.0), ("b", 1.0, 2.0, "owl", 1.0), ("b", 5.0, 6.0, "owl", 1.0)]
    said = [
        ("a", 1.0, 2.0, "owl", 0.9),
        ("a", 6.0, 7.0, "owl", 0.8),
        ("b", 1.1, 2.0, "owl", 0.7),
        ("b", 8.0, 9.0, "owl", 0.1),
    ]
    found = by_collars(answers(true, said))
    f1 = class_f1(found)[0]
    assert np.isnan(f1[0])
    assert f1[1] == pytest.approx(2 * 2 / (3 + 4))
    assert average_precision(found)[0, 1] == pytest.approx((1 + 2 / 3) / 3)
    hours = 20 / 3600
    assert false_alarms_per_hour(found, 0.6)[0, 1] == pytest.approx(1 / hours)
    assert false_alarms_per_hour(found, 0.3)[0, 1] == 0
    assert false_alarms_per_hour(found, 0.9)[0, 1] == np.inf
    # Recording a twice is the same as a second copy of it.
    weights = np.array([[2.0, 1.0]])
    assert class_f1(found, weights)[0, 1] == pytest.approx(2 * 3 / (4 + 6))


def test_ends_of_pairs_however_far_they_are() -> None:
    true = [("a", 1.0, 3.0, "owl", 1), ("a", 4.0, 6.0, "owl", 1)]
    said = [("a", 1.5, 3.2, "owl", 1), ("a", 2.8, 4.2, "owl", 1), ("a", 4.1, 5.0, "owl", 1)]
    ends = endpoints(answers(true, said))
    assert ends.onset.tolist() == pytest.approx([0.5, 0.1])
    assert ends.offset.tolist() == pytest.approx([0.2, -1.0])
    values = np.array([3.0, 1.0, 2.0, 9.0])
    ones = np.ones((1, 4))
    assert quantile(values, 0.5, ones)[0] == 2
    assert quantile(values, 0.9, ones)[0] == 9
    assert quantile(values, 0.5, np.array([[0, 3.0, 1, 1]]))[0] == 1


def test_only_what_was_reviewed_counts() -> None:
    true = [("a", 1.0, 2.0, "owl", 1), ("a", 7.0, 8.0, "owl", 1)]
    said = [("a", 1.0, 2.0, "owl", 1), ("a", 5.6, 6.0, "owl", 1), ("b", 3.0, 4.0, "owl", 1)]
    stretches = table([("a", 0.0, 3.0, "", 0), ("a", 2.0, 5.0, "", 0)]).drop("label", "score")
    both = EventAnswers(table(true), table(said), LENGTHS, ("owl",), reviewed=stretches)
    assert both.lengths.tolist() == [5.0, 0.0]
    assert [part.tolist() for part in by_collars(both).counts()] == [[[1.0]], [[0.0]], [[0.0]]]
    assert by_segments(both).false.sum() == 0
    assert by_segments(both, 0.5).hits.sum() == 2


def test_answers_refuse_what_makes_no_sense() -> None:
    row = [("a", 1.0, 2.0, "owl", 1.0)]
    with pytest.raises(UserError, match="none of the 1 recordings"):
        EventAnswers(table(row), table([]), {"b": 3.0})
    with pytest.raises(UserError, match="after the recording's end"):
        EventAnswers(table(row), table([]), {"a": 1.5})
    with pytest.raises(UserError, match="no recording"):
        EventAnswers(table(row), table([]), {})
    with pytest.raises(UserError, match="dtc"):
        Criteria(1.5)
    notes = EventAnswers(table(row), table(row), {"a": 9.0}, ("frog",)).notes
    assert notes == [
        "1 true events of other classes do not count (owl).",
        "1 found events of other classes do not count (owl).",
    ]


def test_one_recording_of_the_world_is_the_part_of_it() -> None:
    whole = world(0)
    part = whole.only(["3.wav"])
    rows = np.eye(6)[[3]]
    one = by_collars(part).counts()
    assert [values.tolist() for values in by_collars(whole).counts(rows)] == [
        values.tolist() for values in one
    ]
