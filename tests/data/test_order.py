"""The order of a run: pure, complete, balanced and bucketed."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.order import Draw, Order
from sonoformer.errors import UserError

sizes = st.integers(1, 200)


@given(n=sizes, batch=st.integers(1, 40), seed=st.integers(0, 9), bucketed=st.booleans())
@settings(max_examples=80, deadline=None)
def test_an_epoch_is_a_permutation_less_what_fills_no_batch(
    n: int, batch: int, seed: int, bucketed: bool
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 1000, n) if bucketed else None
    order = Order(n, batch_size=batch, seed=seed, lengths=lengths, bucket=3)
    batch = min(batch, n)
    assert order.steps_per_epoch == n // batch >= 1
    for epoch in (0, 1):
        draws = [
            draw
            for step in range(order.steps_per_epoch)
            for draw in order.batch(epoch * order.steps_per_epoch + step)
        ]
        rows = [draw.index for draw in draws]
        assert len(set(rows)) == len(rows) == n // batch * batch
        assert set(rows) <= set(range(n))
        assert [draw.position for draw in draws] == list(range(len(rows)))
        assert {draw.epoch for draw in draws} == {epoch}


@given(n=st.integers(2, 60), steps=st.lists(st.integers(0, 200), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_batch_depends_on_its_step_alone(n: int, steps: list[int]) -> None:
    order = Order(n, batch_size=4, seed=1)
    asked = [order.batch(step) for step in steps]
    for step, draws in zip(steps, asked, strict=True):
        assert Order(n, batch_size=4, seed=1).batch(step) == draws
    assert pickle.loads(pickle.dumps(order)).batch(steps[0]) == asked[0]


def test_epochs_and_seeds_differ() -> None:
    first, second = (Order(100, batch_size=10, seed=s) for s in (0, 1))
    assert not np.array_equal(first.epoch(0), first.epoch(1))
    assert not np.array_equal(first.epoch(0), second.epoch(0))


def test_without_shuffling_rows_come_as_they_are() -> None:
    order = Order(5, batch_size=2, seed=0, shuffle=False)
    assert order.batch(3) == [Draw(1, 2, 2), Draw(1, 3, 3)]


def test_weights_are_frequencies() -> None:
    weights = np.array([0.0, 1.0, 3.0, 0.0, 6.0, 0.0])
    order = Order(6, batch_size=3, seed=0, weights=weights, samples=30_000)
    counts = np.bincount(np.concatenate([order.epoch(0), order.epoch(1)]), minlength=6)
    assert counts.sum() == 60_000
    assert abs(counts / 60_000 - weights / 10).max() < 0.01
    assert (counts[weights == 0] == 0).all()


def test_buckets_hold_like_lengths_and_lose_no_randomness() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 1000)
    order = Order(1000, batch_size=10, seed=0, lengths=lengths)
    plain = Order(1000, batch_size=10, seed=0)

    def padded(order: Order) -> int:
        return sum(10 * lengths[rows].max() for rows in order.epoch(0).reshape(-1, 10))

    assert padded(order) < 1.05 * lengths.sum() < 1.6 * lengths.sum() < padded(plain)
    # Long and short batches alternate: the order of batches does not follow length.
    means = lengths[order.epoch(0)].reshape(-1, 10).mean(1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.35
    assert set(map(tuple, np.sort(order.epoch(0).reshape(-1, 10), 1))) != set(
        map(tuple, np.sort(order.epoch(1).reshape(-1, 10), 1))
    )


def test_a_batch_larger_than_the_data_is_limited_with_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        order = Order(3, batch_size=16, seed=0)
    assert order.steps_per_epoch == 1
    assert sorted(draw.index for draw in order.batch(7)) == [0, 1, 2]
    assert "batch_size: 16 is more than the 3 clips" in caplog.text


@pytest.mark.parametrize(
    "weights", [[0.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]]
)
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    with pytest.raises(UserError, match="weights"):
        Order(2, batch_size=1, seed=0, weights=np.array(weights))


def test_no_clips_are_refused() -> None:
    with pytest.raises(UserError, match="no clips"):
        Order(0, batch_size=1, seed=0)
    with pytest.raises(UserError, match="batch_size"):
        Order(4, batch_size=0, seed=0)
