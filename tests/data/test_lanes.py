"""The order over shards: every clip once, few shards at a time, the same for any processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.lanes import WINDOW, Lanes
from sonoformer.data.order import Order


def spread(shards: int, clips: int, seed: int = 0) -> np.ndarray:
    """Shard of each clip; shards of unequal size, numbers with gaps."""
    random = np.random.default_rng(seed)
    return np.sort(random.integers(0, shards, clips)) * 3 + 1


@settings(max_examples=50, deadline=None)
@given(
    shards=st.integers(1, 200),
    clips=st.integers(8, 600),
    batch=st.integers(1, 8),
    bucketed=st.booleans(),
    seed=st.integers(0, 5),
)
def test_an_epoch_holds_every_clip_once(
    shards: int, clips: int, batch: int, bucketed: bool, seed: int
) -> None:
    lengths = np.random.default_rng(1).integers(1, 99, clips) if bucketed else None
    order = Order(
        clips, batch_size=batch, seed=seed, shards=spread(shards, clips), lengths=lengths, bucket=5
    )
    first, second = order.epoch(0).copy(), order.epoch(1).copy()
    for rows in (first, second):
        assert len(rows) == clips // batch * batch
        assert len(set(rows.tolist())) == len(rows)
    if clips > 20:
        assert not np.array_equal(first, second)
    # A pure function: asked in any order, by another object, the same.
    other = Order(
        clips, batch_size=batch, seed=seed, shards=spread(shards, clips), lengths=lengths, bucket=5
    )
    step = order.steps_per_epoch + order.steps_per_epoch // 2
    assert other.batch(step) == order.batch(step)


def test_few_shards_are_read_at_a_time_and_all_in_random_order() -> None:
    shards = np.repeat(np.arange(400), 40)
    order = Order(len(shards), batch_size=32, seed=0, shards=shards)
    lanes = order.lanes
    assert lanes is not None
    assert (lanes.columns, lanes.tracks) == (16, 4)
    met = shards[order.epoch(0)].reshape(-1, 32)
    most = 2 * WINDOW * lanes.columns * lanes.tracks // 2
    stretch = [len(np.unique(met[s : s + 8])) for s in range(0, len(met) - 8, 8)]
    # Each lane is within one window, or passing from one to the next.
    assert max(stretch) <= most
    plain = Order(len(shards), batch_size=32, seed=0)
    random = shards[plain.epoch(0)].reshape(-1, 32)
    assert len(np.unique(random[:20])) > 1.3 * max(len(np.unique(met[s : s + 20])) for s in (0, 99))
    assert not np.array_equal(met[:50], shards[order.epoch(1)].reshape(-1, 32)[:50])


@pytest.mark.parametrize("world", [2, 4, 8])
def test_processes_and_workers_read_shards_of_their_own(world: int) -> None:
    shards = np.repeat(np.arange(256), 30)
    order = Order(len(shards), batch_size=16, seed=3, shards=shards)
    met = shards[order.epoch(0)].reshape(-1, 16)
    # Lanes are cut from one sequence, so only the shards at a cut are met by two.
    by_rank = [set(met[:, rank::world].ravel()) for rank in range(world)]
    cuts = 16 * 4 * WINDOW
    for rank in range(world):
        for track in range(4):
            own = set(met[track::4, rank::world].ravel())
            assert len(own) <= 256 // (4 * world) + cuts // (4 * world) * 2
    shared = sum(len(one & two) for i, one in enumerate(by_rank) for two in by_rank[:i])
    assert shared < 256 * (world - 1) / 2


def test_lanes_do_not_depend_on_who_reads() -> None:
    shards = spread(30, 500)
    order = Order(500, batch_size=12, seed=0, shards=shards)
    whole = [draw for step in range(5) for draw in order.batch(step)]
    for world in (2, 3, 4, 6):
        shares = [order.batch(step)[rank::world] for step in range(5) for rank in range(world)]
        assert sorted(d.position for share in shares for d in share) == [d.position for d in whole]
        assert {d for share in shares for d in share} == set(whole)


def test_weights_draw_clips_and_shards_order_them() -> None:
    shards = np.repeat(np.arange(64), 20)
    weights = np.where(shards < 8, 8.0, 1.0)
    order = Order(len(shards), batch_size=16, seed=0, shards=shards, weights=weights)
    rows = np.concatenate([order.epoch(epoch) for epoch in range(20)])
    assert np.isclose((shards[rows] < 8).mean(), 8 * 8 / (8 * 8 + 56), atol=0.02)
    assert len(np.unique(shards[order.epoch(0)][:32])) <= 2 * WINDOW * 16


def test_clips_of_similar_length_share_a_batch() -> None:
    shards = spread(40, 2000)
    lengths = np.random.default_rng(0).integers(100, 1000, 2000)

    def padding(order: Order) -> float:
        table = lengths[order.epoch(0)].reshape(-1, 10)
        return float((table.max(1, keepdims=True) - table).mean() / table.mean())

    plain = Order(2000, batch_size=10, seed=0, shards=shards)
    sorted_ = Order(2000, batch_size=10, seed=0, shards=shards, lengths=lengths)
    assert padding(sorted_) < 0.3 * padding(plain)


def test_every_batch_size_has_columns_that_divide_it() -> None:
    for batch in range(1, 70):
        lanes = Lanes(np.arange(1000), batch)
        assert batch % lanes.columns == 0
        assert lanes.columns * lanes.tracks * WINDOW <= 1000
