"""The same figures as sed_eval and psds_eval on the same tables (tests/fixtures/events)."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.collars import by_collars
from sonoformer.evaluation.events.intersection import Criteria, by_intersection
from sonoformer.evaluation.events.outcomes import class_f1, macro, pooled_f1
from sonoformer.evaluation.events.psds import Scenario, psd_roc, psds_of_points
from sonoformer.evaluation.events.segments import by_segments, error_rate

FILE = Path(__file__).parents[2] / "fixtures/events/reference.json"
CASES = range(28)
TIGHT = {"rel": 1e-9, "abs": 1e-9}


@cache
def cases() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text())  # type: ignore[no-any-return]


def table(rows: list[list[Any]]) -> pl.DataFrame:
    names = ["path", "start", "end", "label", "score"][: len(rows[0]) if rows else 5]
    schema = dict(
        zip(names, [pl.String, pl.Float64, pl.Float64, pl.String, pl.Float64], strict=False)
    )
    return pl.DataFrame(rows, schema=schema, orient="row")


def answers(one: dict[str, Any], classes: list[str] | None = None) -> EventAnswers:
    truth = table(one["truth"]) if one["truth"] else table([]).drop("score")
    return EventAnswers(truth, table(one["found"]), one["seconds"], classes or one["classes"])


@pytest.mark.parametrize("number", CASES)
def test_events_by_collars(number: int) -> None:
    one = cases()[number]
    ours = answers(one)
    for theirs in one["sed_eval"]["events"]:
        found = by_collars(ours, theirs["collar"], theirs["share"], reference=True)
        hits, false, misses = (part[0] for part in found.counts())
        assert hits.tolist() == theirs["class_hits"]
        assert hits.sum() == theirs["hits"]
        f1 = class_f1(found)[0]
        for value, wanted, hit, wrong, lost in zip(
            f1, theirs["class_f"], hits, false, misses, strict=True
        ):
            if hit + wrong == 0 and lost:
                # sed_eval leaves a class that is never found out of its mean.
                assert wanted is None
                assert value == 0
            elif hit + lost == 0:
                assert wanted is None
                assert math.isnan(value)
            else:
                assert value == pytest.approx(wanted, **TIGHT)
        if theirs["f"] is not None:
            assert pooled_f1(found)[0] == pytest.approx(theirs["f"], **TIGHT)
        if theirs["mean_f"] is not None and (hits + false > 0).all():
            assert macro(f1[None])[0] == pytest.approx(theirs["mean_f"], **TIGHT)


@pytest.mark.parametrize("number", CASES)
def test_segments(number: int) -> None:
    one = cases()[number]
    ours = answers(one)
    ones = np.ones((1, len(ours.paths)))
    for theirs in one["sed_eval"]["segments"]:
        counts = by_segments(ours, theirs["seconds"], reference=True)
        cells = np.stack([counts.hits.sum(0), counts.false.sum(0), counts.misses.sum(0)], 1)
        assert cells.tolist() == theirs["class_counts"]
        overall = [counts.hits, counts.swapped, counts.deleted, counts.inserted]
        active = counts.hits.sum() + counts.misses.sum()
        assert [part.sum() for part in overall] + [active] == theirs["counts"]
        if active:
            assert error_rate(counts, ones)[0] == pytest.approx(theirs["error"], **TIGHT)
        else:
            assert theirs["error"] > 1e6 or not counts.inserted.sum()
            assert math.isnan(error_rate(counts, ones)[0])


JUDGED = [n for n in CASES if cases()[n]["psds_eval"] is not None]


@pytest.mark.parametrize("number", JUDGED)
@pytest.mark.parametrize("name", ["PSDS1", "PSDS2", "half"])
def test_intersections_and_psds(number: int, name: str) -> None:
    one = cases()[number]
    theirs = one["psds_eval"]["scenarios"][name]
    classes = sorted({row[3] for row in one["truth"]})
    ours = answers(one, classes)
    dtc, gtc, cttc, alpha_ct, alpha_st, e_max = theirs["parameters"]
    scenario = Scenario(Criteria(dtc, gtc, cttc), alpha_ct, alpha_st, e_max)
    found = by_intersection(ours, scenario.criteria, reference=True)
    hits, false, _ = (part[0] for part in found.outcomes.counts())
    matrix = np.array(theirs["counts"])
    assert hits.tolist() == np.diag(matrix)[:-1].tolist()
    assert false.tolist() == matrix[:-1, -1].tolist()
    crossed = np.zeros((len(classes), len(classes)))
    np.add.at(crossed, (found.triggers.label, found.triggers.other), 1)
    assert (crossed + np.diag(hits)).tolist() == matrix[:-1, :-1].tolist()
    for value, hit, label in zip(class_f1(found.outcomes)[0], hits, classes, strict=True):
        if hit:
            assert value == pytest.approx(theirs["f"][label], **TIGHT)
        else:
            # psds_eval divides by zero for a class of which nothing is found.
            assert theirs["f"][label] is None
            assert value == 0
    if len(classes) == 1:
        # psds_eval's mean over the other classes is empty, and its score always 0.
        assert theirs["psds"] == 0
        assert psd_roc(found, scenario).score > 0 or not (hits > 0).any() or false.any()
        return
    assert psd_roc(found, scenario).score == pytest.approx(theirs["psds"], **TIGHT)


def test_operating_points_one_by_one_give_the_same_score() -> None:
    one = cases()[20]
    theirs = one["psds_eval"]["scenarios"]["PSDS2"]
    classes = sorted({row[3] for row in one["truth"]})
    dtc, gtc, cttc, *rest = theirs["parameters"]
    points = [
        answers({**one, "found": [r for r in one["found"] if r[4] >= threshold]}, classes)
        for threshold in one["psds_eval"]["thresholds"]
    ]
    roc = psds_of_points(points, Scenario(Criteria(dtc, gtc, cttc), *rest), reference=True)
    assert roc.score == pytest.approx(theirs["psds"], **TIGHT)
