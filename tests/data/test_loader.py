"""Loaders: the same batches whoever prepares them, and every clip once where it counts."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch

from sonoformer.data import workers as workers_module
from sonoformer.data.augment import AugmentConfig
from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset, collate
from sonoformer.data.loader import EvaluationLoader, StepLoader
from sonoformer.data.order import Order
from sonoformer.errors import AudioError, UserError


class Sounds:
    """Noise of 20 to 400 samples, 16-bit or float; some cannot be read."""

    sample_rate = 100

    def __init__(self, count: int = 37, bad: tuple[int, ...] = (), whole: bool = True) -> None:
        self.lengths = np.random.default_rng(0).integers(20, 400, count)
        self.bad, self.whole = bad, whole

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        return f"{index}.wav"

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        if index in self.bad:
            raise AudioError(f"{index}.wav", "is broken")
        random = np.random.default_rng(index)
        samples = random.integers(-(2**15), 2**15, self.lengths[index], dtype=np.int16)
        part = samples[start : start + count]
        return part if self.whole else part.astype(np.float32) / 32768


def make(train: bool = True, **source: object) -> ClipDataset:
    sounds = Sounds(**source)  # type: ignore[arg-type]
    return ClipDataset(
        sounds,
        crop=200,
        seed=1,
        train=train,
        targets=np.eye(len(sounds)),
        augment=AugmentConfig(mixup=0.2, time_mask=3),
        noise=5,
    )


def order_of(dataset: ClipDataset, batch_size: int = 4) -> Order:
    return Order(len(dataset), batch_size=batch_size, seed=2, lengths=dataset.lengths)


def same(one: Batch, other: Batch) -> bool:
    for field in fields(Batch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if not (
            torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
        ):
            return False
    return True


def run(dataset: ClipDataset, start: int = 0, stop: int = 23, **options: int) -> list[Batch]:
    return list(StepLoader(dataset, order_of(dataset), start=start, stop=stop, **options))


@pytest.fixture(scope="module")
def reference() -> list[Batch]:
    dataset = make()
    order = order_of(dataset)
    return [collate([dataset[d] for d in order.batch(step)]).prepared() for step in range(23)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_change_nothing(reference: list[Batch], workers: int) -> None:
    # All are kept until the end: none lies in memory that is used again.
    batches = run(make(), workers=workers)
    assert len(batches) == 23
    assert all(map(same, batches, reference))
    assert {batch.wave.dtype for batch in batches} == {torch.float32}


def test_float_sources_go_through_workers_too(reference: list[Batch]) -> None:
    batches = run(make(whole=False), workers=1)
    for batch, other in zip(batches, reference, strict=True):
        torch.testing.assert_close(batch.wave, other.wave, atol=1e-6, rtol=0)


def test_batches_too_large_for_a_slot_come_another_way(
    reference: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_LARGEST", 1000)
    assert all(map(same, run(make(), workers=1), reference))


@pytest.mark.parametrize("workers", [0, 1])
def test_any_step_can_be_the_first(reference: list[Batch], workers: int) -> None:
    # In the middle of the first and of the second epoch; an epoch has nine steps.
    for start in (4, 13):
        assert all(map(same, run(make(), start=start, workers=workers), reference[start:]))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch(reference: list[Batch], world: int) -> None:
    shares = [run(make(), rank=rank, world_size=world) for rank in range(world)]
    for step, batch in enumerate(reference):
        for rank in range(world):
            share = shares[rank][step]
            assert torch.equal(share.index, batch.index[rank::world])
            assert torch.equal(share.noise, batch.noise[rank::world])  # type: ignore[index,arg-type]
            longest = int(share.lengths.max())
            assert torch.equal(share.wave, batch.wave[rank::world, :longest])


def test_more_processes_than_clips_are_refused() -> None:
    dataset = make()
    with pytest.raises(UserError, match="batch_size: 4 clips cannot be shared by 5 processes"):
        StepLoader(dataset, order_of(dataset), start=0, stop=1, world_size=5)


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_own_randomness_is_not_touched(workers: int) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(make(), stop=2, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_replaced_and_reach_the_main_process(workers: int) -> None:
    batches = run(make(bad=(0, 5)), workers=workers)
    problems = {problem for batch in batches for problem in batch.problems}
    assert problems == {"0.wav: is broken", "5.wav: is broken"}
    assert not {0, 5} & {int(row) for batch in batches for row in batch.index}
    assert {len(batch) for batch in batches} == {4}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_set_that_cannot_be_read_is_one_sentence(workers: int) -> None:
    with pytest.raises(UserError, match="in a row cannot be read") as caught:
        run(make(bad=tuple(range(37))), workers=workers)
    assert "\n" not in str(caught.value)


def test_a_loader_left_in_the_middle_leaves_no_process() -> None:
    before = set(multiprocessing.active_children())
    dataset = make()
    batches: Iterator[Batch] = iter(
        StepLoader(dataset, order_of(dataset), start=0, stop=1000, workers=2)
    )
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    del batches
    until = time.monotonic() + 20
    while set(multiprocessing.active_children()) - before and time.monotonic() < until:
        time.sleep(0.05)
    assert not set(multiprocessing.active_children()) - before


@pytest.mark.slow
def test_workers_can_be_spawned(reference: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr("sonoformer.data.loader.start_method", lambda: spawn)
    assert all(map(same, run(make(), workers=1), reference))


def test_evaluation_meets_every_clip_once_in_order_of_length() -> None:
    dataset = make(train=False)
    loader = EvaluationLoader(dataset, 5)
    batches = list(loader)
    assert len(batches) == len(loader)
    rows = torch.cat([batch.index for batch in batches]).tolist()
    assert sorted(rows) == list(range(37))
    lengths = torch.cat([batch.lengths for batch in batches])
    assert (lengths.diff() >= 0).all()
    assert lengths.tolist() == dataset.lengths[rows].tolist()
    assert max(map(len, batches)) == 5
    assert batches[0].wave.dtype == torch.float32


def test_evaluation_repeats_itself_whatever_the_batch_size() -> None:
    dataset = make(train=False)
    first, again = list(EvaluationLoader(dataset, 5)), list(EvaluationLoader(dataset, 5))
    assert all(map(same, first, again))
    loader = EvaluationLoader(dataset, 5)
    assert all(map(same, loader, loader))
    for one, many in ((1, 37), (3, 7)):
        noise = []
        for size in (one, many):
            found = [(b.index, b.noise) for b in EvaluationLoader(dataset, size)]
            order = torch.cat([rows for rows, _ in found]).argsort()
            noise.append(torch.cat([n for _, n in found])[order])  # type: ignore[misc]
        assert torch.equal(*noise)


def test_evaluation_takes_the_rows_asked_for_in_batches_of_limited_sound() -> None:
    dataset = make(train=False)
    rows = np.array([3, 30, 11, 8])
    batches = list(EvaluationLoader(dataset, 16, rows=rows))
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == sorted(rows.tolist())
    limited = list(EvaluationLoader(dataset, 16, seconds=5.0))
    assert all(batch.wave.numel() <= 500 for batch in limited)
    assert max(map(len, limited)) > 1
    # A clip longer than the limit still comes, alone.
    assert {len(batch) for batch in EvaluationLoader(dataset, 16, seconds=0.1)} == {1}


@pytest.mark.parametrize("bad", [(3,), tuple(range(36)), tuple(range(37))])
def test_evaluation_leaves_out_what_cannot_be_read_and_lists_it(bad: tuple[int, ...]) -> None:
    loader = EvaluationLoader(make(train=False, bad=bad), 4)
    rows = [int(row) for batch in loader for row in batch.index]
    assert sorted(rows) == [row for row in range(37) if row not in bad]
    assert loader.problems == {f"{row}.wav": "is broken" for row in bad}


def test_evaluation_can_be_left_in_the_middle() -> None:
    for batch in EvaluationLoader(make(train=False), 4):
        assert len(batch) == 4
        break
