"""Frames to events: what a plain loop finds, in any pieces, from any saved state."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.evaluation.events.post import ClassPost, PostConfig
from sonoformer.evaluation.events.stream import EventStream, events_of_frames

LEVELS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)


@st.composite
def configs(draw: st.DrawFn) -> ClassPost:
    high = draw(st.sampled_from((0.3, 0.5, 0.6, 0.75)))
    return ClassPost(
        median=draw(st.sampled_from((0.0, 0.3, 0.5, 1.1))),
        high=high,
        low=draw(st.sampled_from((None, high / 2, 0.25))),
        gap=draw(st.sampled_from((0.0, 0.15, 0.4, 1.0))),
        shortest=draw(st.sampled_from((0.0, 0.12, 0.5))),
        longest=draw(st.sampled_from((None, 0.9, 2.0))),
        score=draw(st.sampled_from(("max", "mean"))),
        interpolate=draw(st.booleans()),
    )


@st.composite
def recordings(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    frames = draw(st.integers(0, 60))
    values = draw(st.lists(st.sampled_from(LEVELS), min_size=2 * frames, max_size=2 * frames))
    cuts = draw(st.lists(st.integers(0, frames), max_size=8))
    return np.array(values, np.float32).reshape(frames, 2), sorted(cuts)


def plain_events(
    scores: np.ndarray, config: ClassPost, step: float, start: float
) -> list[tuple[float, float, float]]:
    """One frame after the other, as the options say it."""
    half = config.reach(step)
    padded = [*[scores[0]] * half, *scores, *[scores[-1]] * half] if len(scores) else []
    track = [float(np.median(padded[i : i + 2 * half + 1])) for i in range(len(scores))]
    low = config.closing
    found: list[tuple[float, float, list[float]]] = []
    began, held = None, []
    for i, score in enumerate(track):
        if began is None and score >= np.float32(config.high):
            began = float(i)
            if config.interpolate and i:
                began = i - 0.5 + (config.high - track[i - 1]) / (score - track[i - 1])
        if began is not None and score < np.float32(low):
            end = float(i)
            if config.interpolate:
                end = i - 0.5 + (track[i - 1] - low) / (track[i - 1] - score)
            found.append((began, end, held))
            began, held = None, []
        if began is not None:
            held.append(score)
    if began is not None:
        found.append((began, float(len(track)), held))
    joined: list[tuple[float, float, list[float]]] = []
    for one in found:
        if joined and (one[0] - joined[-1][1]) * step < config.gap - 1e-9:
            joined[-1] = (joined[-1][0], one[1], joined[-1][2] + one[2])
        else:
            joined.append(one)
    rows = []
    for begin, end, held in joined:
        lasts = (end - begin) * step
        if lasts < config.shortest - 1e-6 or (config.longest and lasts > config.longest + 1e-6):
            continue
        score = max(held) if config.score == "max" else sum(held) / len(held)
        rows.append((start + begin * step, start + end * step, score))
    return rows


@settings(max_examples=30)
@given(recordings(), configs(), configs())
def test_any_pieces_give_the_events_of_the_whole(
    recording: tuple[np.ndarray, list[int]], first: ClassPost, second: ClassPost
) -> None:
    scores, cuts = recording
    config = PostConfig(first, {"owl": second})
    whole = events_of_frames(scores, 0.1, config, ("frog", "owl"), start=3.0, end=8.2)
    stream = EventStream(config, ("frog", "owl"), 0.1, start=3.0)
    parts = []
    for begin, end in zip([0, *cuts], [*cuts, len(scores)], strict=True):
        parts.append(stream.push(scores[begin:end]))
        # As if the program had been stopped here.
        state = json.loads(json.dumps(stream.state()))
        stream = EventStream(config, ("frog", "owl"), 0.1, start=3.0).restore(state)
    parts.append(stream.finish(8.2))
    together = pl.concat(parts).sort("start", "end", "label", maintain_order=True)
    assert together.equals(whole)


@settings(max_examples=30)
@given(recordings(), configs())
def test_equals_a_plain_loop(recording: tuple[np.ndarray, list[int]], config: ClassPost) -> None:
    scores, _ = recording
    # Off the grid, so that no duration falls on a limit by rounding.
    step = 0.10007
    found = events_of_frames(scores, step, PostConfig(config), ("a", "b"), start=1.0)
    for column, name in enumerate(("a", "b")):
        rows = found.filter(label=name).select("start", "end", "score").rows()
        wanted = plain_events(scores[:, column], config, step, 1.0)
        assert len(rows) == len(wanted)
        assert np.allclose(rows, wanted, atol=1e-6) if rows else not wanted


def test_a_ramp_is_cut_where_the_line_crosses() -> None:
    # Centres lie at 0.5, 1.5, ... s; the lines cross 0.5 at 1.75 s and 0.25 at 4.1875 s.
    scores = np.array([0, 0.4, 0.8, 0.9, 0.4, 0.0], np.float32)[:, None]
    config = PostConfig(ClassPost(high=0.5, low=0.25))
    [row] = events_of_frames(scores, 1.0, config, ("a",)).rows(named=True)
    assert row["start"] == pytest.approx(1.75)
    assert row["end"] == pytest.approx(4.5 + (0.4 - 0.25) / 0.4)
    assert row["score"] == pytest.approx(0.9)
    config = PostConfig(ClassPost(high=0.5, low=0.25, interpolate=False, score="mean"))
    [row] = events_of_frames(scores, 1.0, config, ("a",)).rows(named=True)
    assert (row["start"], row["end"]) == (2.0, 5.0)
    assert row["score"] == pytest.approx(0.7)


def test_events_reach_the_edges_and_no_further() -> None:
    scores = np.ones((4, 1), np.float32)
    [row] = events_of_frames(scores, 0.5, PostConfig(), ("a",), end=1.9).rows(named=True)
    assert (row["start"], row["end"]) == (0.0, 1.9)


def test_an_event_is_given_as_soon_as_nothing_can_change_it() -> None:
    stream = EventStream(PostConfig(ClassPost(gap=2.0)), ("a",), 1.0)
    assert stream.push(np.array([[0], [1], [0]], np.float32)).is_empty()
    assert stream.push(np.zeros((1, 1), np.float32)).is_empty()
    assert stream.push(np.zeros((1, 1), np.float32)).height == 1
    assert stream.finish().is_empty()


def test_memory_does_not_grow_with_the_recording() -> None:
    rng = np.random.default_rng(0)
    stream = EventStream(PostConfig(ClassPost(median=0.5, gap=0.3)), ("a", "b"), 0.1)
    sizes = []
    for _ in range(40):
        stream.push(rng.random((500, 2)).astype(np.float32))
        sizes.append(len(json.dumps(stream.state())))
    assert max(sizes) < 2000


def test_scores_that_are_none_are_refused() -> None:
    stream = EventStream(PostConfig(), ("a",), 0.1)
    for bad in (np.full((2, 1), np.nan), np.full((2, 1), 1.5), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="scores"):
            stream.push(bad)
    with pytest.raises(ValueError, match="classes"):
        stream.restore({"classes": ["b"], "lanes": []})


def test_options_are_checked_and_kept(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for bad in ({"high": 0.0}, {"low": 0.6}, {"gap": -1.0}, {"longest": 0.0}, {"score": "sum"}):
        with pytest.raises(UserError, match=next(iter(bad))):
            ClassPost(**bad)
    config = PostConfig(classes={"owl": ClassPost(median=0.3, high=0.7, low=0.3, longest=4.0)})
    config.save(tmp_path / "post.json")
    assert PostConfig.load(tmp_path / "post.json") == config
    (tmp_path / "post.json").write_text('{"default": {"hihg": 0.4}}')
    with pytest.raises(UserError, match="hihg"):
        PostConfig.load(tmp_path / "post.json")
