"""Clips: a pure function of their place, with soft labels and stand-ins that are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.augment import AugmentConfig
from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset, Item, collate
from sonoformer.data.order import Draw
from sonoformer.errors import AudioError, UserError


class Ramps:
    """Item i holds the samples 100 i, 100 i + 1, ..."""

    sample_rate = 100

    def __init__(self, lengths: list[int], bad: tuple[int, ...] = (), whole: bool = True) -> None:
        self.lengths = np.array(lengths)
        self.bad, self.whole = bad, whole

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        return f"{index}.wav"

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        if index in self.bad:
            raise AudioError(f"{index}.wav", "is broken")
        samples = np.arange(start, min(start + count, self.lengths[index])) + 100 * index
        return samples.astype(np.int16) if self.whole else (samples / 32768).astype(np.float32)


def clips(source: Any, **options: Any) -> ClipDataset:
    return ClipDataset(source, **{"crop": 30, "seed": 0, "train": True, **options})


def same(one: Item, other: Item) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in Item.__slots__]
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


AUGMENT = AugmentConfig(mixup=0.5, roll=True, gain_db=6.0, freq_mask=5)


@given(epoch=st.integers(0, 5), position=st.integers(0, 10**6), index=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_clip_is_a_pure_function_of_its_place(epoch: int, position: int, index: int) -> None:
    draw = Draw(epoch, position, index)
    targets = np.eye(4)
    one, other = (
        clips(Ramps([50, 20, 300, 31]), targets=targets, augment=AUGMENT, noise=3) for _ in "ab"
    )
    other[Draw(3, 4, 1)]  # what was asked before does not matter
    assert same(one[draw], other[draw])
    assert 0 < len(one[draw].wave) <= 30


def test_places_seeds_and_epochs_give_other_crops_and_noise() -> None:
    source = Ramps([10_000])
    items = [
        clips(source, seed=seed, noise=2)[Draw(epoch, position, 0)]
        for seed in (0, 1) for epoch in (0, 1) for position in (0, 1)
    ]  # fmt: skip
    assert len({int(item.wave[0]) for item in items}) == 8
    assert len({tuple(item.noise.tolist()) for item in items if item.noise is not None}) == 8


def test_crops_reach_every_place_evenly() -> None:
    dataset = clips(Ramps([35]))
    starts = [int(dataset[Draw(0, position, 0)].wave[0]) for position in range(3000)]
    counts = np.bincount(starts)
    assert len(counts) == 6  # 0 to 5: the last crop ends with the item
    assert abs(counts - 500).max() < 90


@pytest.mark.parametrize(("crops", "first"), [("random", 10), ("first", 0)])
def test_outside_training_a_clip_depends_on_its_row_alone(crops: str, first: int) -> None:
    dataset = clips(Ramps([50, 20]), train=False, crops=crops, noise=4, augment=AUGMENT)
    one, other = dataset[Draw(0, 0, 0)], dataset[Draw(3, 17, 0)]
    assert same(one, other)
    assert one.wave.tolist() == list(range(first, first + 30))
    assert one.draws is None
    assert not np.array_equal(one.noise, dataset[Draw(0, 0, 1)].noise)  # type: ignore[arg-type]


def test_first_crops_are_the_beginnings_of_the_clip_and_of_its_partner() -> None:
    source, draws = Ramps([50, 300]), [Draw(e, p, 0) for e in (0, 1) for p in range(20)]
    for draw in draws:
        assert clips(source, crops="first")[draw].wave.tolist() == list(range(30))
    # Two beginnings mixed rise by one a sample as each does, from 100 times the partner's share.
    mixed = clips(source, crops="first", augment=AugmentConfig(mixup=1.0), targets=np.eye(2))
    for item in (mixed[draw] for draw in draws):
        assert item.targets is not None
        ramp = (np.arange(30) + 100 * item.targets[1]) / 32768
        np.testing.assert_allclose(item.wave, ramp, atol=1e-6)


def test_short_clips_are_whole_and_padded_with_silence() -> None:
    dataset = clips(Ramps([12, 100, 1]))
    batch = collate([dataset[Draw(0, i, i)] for i in range(3)])
    assert batch.wave.dtype == torch.int16
    assert batch.lengths.tolist() == [12, 30, 1]
    assert batch.wave[0].tolist() == list(range(12)) + [0] * 18
    assert batch.wave[2].tolist() == [200] + [0] * 29
    assert dataset.lengths.tolist() == [12, 30, 1]


def test_16_bit_and_float_sources_give_the_same_batch() -> None:
    draws = [Draw(0, i, i % 3) for i in range(6)]

    def batch(whole: bool) -> Batch:
        dataset = clips(Ramps([50, 20, 300], whole=whole), noise=2, augment=AUGMENT)
        return collate([dataset[draw] for draw in draws]).prepared()

    one, other = batch(True), batch(False)
    assert one.wave.dtype == other.wave.dtype == torch.float32
    torch.testing.assert_close(one.wave, other.wave, atol=1e-7, rtol=1e-6)
    assert torch.equal(one.noise, other.noise)  # type: ignore[arg-type]


def test_a_batch_of_both_kinds_is_float() -> None:
    items = [clips(Ramps([40], whole=whole))[Draw(0, 0, 0)] for whole in (True, False)]
    wave = collate(items).wave
    assert wave.dtype == torch.float32
    assert torch.equal(wave[0], wave[1])


class Constants(Ramps):
    """Item i is the constant (i + 1) / 10."""

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        super().read(index, start, count)
        count = min(count, int(self.lengths[index]) - start)
        return np.full(count, (index + 1) / 10, np.float32)


def test_mixup_mixes_sound_and_labels_by_the_same_share() -> None:
    source = Constants([30] * 5)
    dataset = clips(source, targets=np.eye(5), augment=AugmentConfig(mixup=1.0))
    shares, partners = [], []
    for position in range(2000):
        item = dataset[Draw(0, position, 0)]
        assert item.targets is not None
        assert item.targets.sum() == pytest.approx(1)
        # The level is the mean of the clips' levels, weighted by their labels.
        level = (item.targets * np.arange(1, 6) / 10).sum()
        np.testing.assert_allclose(item.wave, level, rtol=1e-5)
        if (item.targets > 0).sum() == 2:
            shares.append(float(item.targets[0]))
            partners.append(int(item.targets[1:].argmax()))
    # A partner is any clip, itself included, with equal chance; shares follow Beta(10, 10).
    assert len(shares) == pytest.approx(1600, abs=60)
    assert abs(np.bincount(partners) - len(shares) / 4).max() < 80
    assert np.mean(shares) == pytest.approx(0.5, abs=0.01)
    assert np.std(shares) == pytest.approx((1 / 84) ** 0.5, abs=0.01)


def test_mixup_happens_as_often_as_asked_and_only_in_training() -> None:
    options = {"targets": np.eye(50), "augment": AugmentConfig(mixup=0.3)}
    source = Constants([30] * 50)
    mixed = [
        (item.targets.max() < 1)
        for item in (clips(source, **options)[Draw(0, p, 0)] for p in range(1000))
        if item.targets is not None
    ]
    assert np.mean(mixed) == pytest.approx(0.3 * 0.98, abs=0.05)
    item = clips(source, train=False, **options)[Draw(0, 0, 7)]
    assert item.targets is not None
    assert item.targets[7] == 1


def test_a_partner_is_cut_or_padded_to_the_clip() -> None:
    dataset = clips(Constants([10, 25]), augment=AugmentConfig(mixup=1.0))
    short = [dataset[Draw(0, p, 0)] for p in range(50)]
    long = [dataset[Draw(0, p, 1)] for p in range(50)]
    assert {len(item.wave) for item in short} == {10}
    assert {len(item.wave) for item in long} == {25}
    # Beyond a short partner the clip goes on alone, at its own share.
    mixed = [item.wave for item in long if abs(item.wave[0] - item.wave[-1]) > 1e-3]
    assert mixed
    assert all((wave[:10] == wave[0]).all() and (wave[10:] == wave[10]).all() for wave in mixed)


def test_what_is_unknown_of_either_clip_is_unknown_of_the_mixture() -> None:
    known = np.array([[True, True, False], [True, False, True]])
    dataset = clips(
        Constants([30, 30]), targets=np.zeros((2, 3)), known=known, augment=AugmentConfig(mixup=1.0)
    )
    seen = {tuple(dataset[Draw(0, p, 0)].known.tolist()) for p in range(40)}  # type: ignore[union-attr]
    assert seen == {(True, True, False), (True, False, False)}


def test_roll_and_gain_keep_the_samples() -> None:
    dataset = clips(Ramps([30]), augment=AugmentConfig(roll=True))
    waves = [dataset[Draw(0, p, 0)].wave for p in range(50)]
    assert all(wave.dtype == np.int16 and sorted(wave) == list(range(30)) for wave in waves)
    assert len({int(wave[0]) for wave in waves}) > 15
    loud = clips(Constants([30]), augment=AugmentConfig(gain_db=6.0))
    levels = np.array([loud[Draw(0, p, 0)].wave[0] for p in range(300)]) / 0.1
    decibels = 20 * np.log10(levels)
    assert -6 <= decibels.min() < -5 < 5 < decibels.max() <= 6


def test_a_clip_that_cannot_be_read_is_replaced_and_listed() -> None:
    dataset = clips(Ramps([30] * 10, bad=(2, 3, 4)), targets=np.eye(10))
    items = [dataset[Draw(0, p, 2)] for p in range(40)]
    for item in items:
        assert item.targets is not None
        assert item.index not in (2, 3, 4)
        assert item.wave[0] == 100 * item.index
        assert item.targets.argmax() == item.index
        assert item.problems[0] == "2.wav: is broken"
    assert len({item.index for item in items}) > 4
    assert all(same(item, dataset[Draw(0, p, 2)]) for p, item in enumerate(items))
    assert collate(items[:2]).problems == items[0].problems + items[1].problems


def test_a_partner_that_cannot_be_read_is_replaced_too() -> None:
    dataset = clips(
        Constants([30] * 4, bad=(1,)), targets=np.eye(4), augment=AugmentConfig(mixup=1.0)
    )
    items = [dataset[Draw(0, p, 0)] for p in range(100)]
    assert all(item.index == 0 for item in items)
    assert {problem for item in items for problem in item.problems} == {"1.wav: is broken"}
    assert all(item.targets is not None and item.targets[1] == 0 for item in items)


def test_a_set_without_a_readable_clip_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"is broken; .* in a row cannot be read"):
        clips(Ramps([30] * 3, bad=(0, 1, 2)))[Draw(0, 0, 0)]


def test_outside_training_nothing_stands_in() -> None:
    with pytest.raises(AudioError, match=r"1\.wav"):
        clips(Ramps([30] * 3, bad=(1,)), train=False)[Draw(0, 0, 1)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: clips(Ramps([30]), targets=np.zeros((2, 1))),
        lambda: clips(Ramps([30]), known=np.ones((2, 1), bool)),
        lambda: clips(Ramps([30]), crops="middle"),
    ],
)
def test_tables_that_do_not_fit_are_refused(make: Callable[[], ClipDataset]) -> None:
    with pytest.raises(ValueError, match=r"targets|known|crops"):
        make()
