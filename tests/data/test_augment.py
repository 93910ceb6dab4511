"""Augmentation: pure functions of their draws, inside the clip, of the paper's sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.data.augment import (
    DRAWS,
    AugmentConfig,
    augment_spectrogram,
    change_level,
    mix,
)
from sonoformer.errors import UserError


def spec_of(batch: int = 64, frames: int = 100, bins: int = 40) -> torch.Tensor:
    return torch.rand(batch, frames, bins, generator=torch.Generator().manual_seed(0)) + 1


def draws_of(batch: int = 64) -> torch.Tensor:
    return torch.rand(batch, DRAWS, generator=torch.Generator().manual_seed(1))


@given(first=st.integers(1, 50), second=st.integers(1, 50), weight=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_mix_has_the_first_clips_length(first: int, second: int, weight: float) -> None:
    one, other = np.ones(first, np.float32), np.full(second, 2.0, np.float32)
    mixed = mix(one, other, weight)
    assert mixed.shape == (first,)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed[:second], weight + 2 * (1 - weight), atol=1e-6)
    np.testing.assert_allclose(mixed[second:], weight, atol=1e-6)


def test_change_level_is_in_decibels() -> None:
    np.testing.assert_allclose(change_level(np.ones(3, np.float32), -20.0), 0.1, rtol=1e-6)


@given(freq=st.integers(0, 60), time=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_masks_are_one_band_and_one_stretch_below_their_widths(freq: int, time: int) -> None:
    spec, lengths = spec_of(16), torch.randint(1, 101, (16,))
    config = AugmentConfig(freq_mask=freq, time_mask=time, mask_value=0.25)
    out = augment_spectrogram(spec, lengths, draws_of(16), config)
    changed = out != spec
    assert (out[changed] == 0.25).all()
    for clip, length in zip(changed, lengths.tolist(), strict=True):
        assert not clip[length:].any()
        rows, columns = clip[:length].all(1), clip[:length].all(0)
        assert rows.sum() < max(1, min(time, length / 2))
        if not rows.all():
            assert columns.sum() < max(1, min(freq, 40))
        for line in (rows, columns):
            assert line.int().diff().abs().sum() <= 2  # one run
        # Nothing else is touched.
        assert torch.equal(clip[:length], rows[:, None] | columns[None, :])


def test_masked_widths_are_uniform() -> None:
    config = AugmentConfig(freq_mask=24, time_mask=48)
    draws = torch.rand(4000, DRAWS, generator=torch.Generator().manual_seed(2))
    spec = torch.ones(4000, 100, 40)
    masked = augment_spectrogram(spec, torch.full((4000,), 100), draws, config) == 0
    height, width = masked.all(1).sum(1).float(), masked.all(2).sum(1).float()
    assert abs(height.mean() - 11.5) < 0.5
    assert abs(width.mean() - 23.5) < 0.8
    assert (height.max(), width.max()) == (23, 47)
    # Places are uniform: every bin is masked, those in the middle as often as a uniform law says.
    rate = masked.all(1).float().mean(0)
    assert rate.min() > 0.02
    assert abs(rate - rate.flip(0)).max() < 0.05


def authors_masks(
    spec: np.ndarray, draws: list[np.float32], freqm: int, timem: int, zero: float
) -> np.ndarray:
    """torchaudio's FrequencyMasking(freqm), then TimeMasking(timem), of one clip, step by step."""
    spec = spec.copy()
    for axis, widest, (u1, u2) in ((1, freqm, draws[:2]), (0, timem, draws[2:])):
        value = u1 * np.float32(widest)
        min_value = u2 * (np.float32(spec.shape[axis]) - value)
        start, end = int(min_value), int(min_value) + int(value)
        for cell in range(spec.shape[axis]):
            if start <= cell < end:
                spec[(slice(None), cell) if axis else cell] = zero
    return spec


@pytest.mark.parametrize(("freqm", "timem"), [(24, 96), (48, 0), (0, 48), (60, 150)])
def test_reference_masks_are_the_authors_on_the_whole_padded_spectrogram(
    freqm: int, timem: int
) -> None:
    spec, draws = spec_of(), draws_of()
    config = AugmentConfig(freq_mask=freqm, time_mask=timem, masks="reference", mask_value=9.0)
    lengths = torch.randint(1, 101, (64,), generator=torch.Generator().manual_seed(3))
    got = augment_spectrogram(spec, lengths, draws, config, raw_zero=0.467)
    for clip, before, numbers in zip(got.numpy(), spec.numpy(), draws.numpy(), strict=True):
        expected = authors_masks(before, list(numbers[:4]), freqm, timem, np.float32(0.467))
        np.testing.assert_array_equal(clip, expected)
    if timem == 150:
        assert max((clip == 0.467).all(1).sum() for clip in got) > 50  # no limit of half a clip


def test_reference_masks_come_before_noise_and_rolling() -> None:
    spec, draws = spec_of(), draws_of()
    every = torch.full((64,), 100)
    masks = {"freq_mask": 24, "time_mask": 48, "masks": "reference"}
    masked = augment_spectrogram(spec, every, draws, AugmentConfig(**masks), 0.5)  # type: ignore[arg-type]
    noisy = augment_spectrogram(masked, every, draws, AugmentConfig(noise=True))
    both = AugmentConfig(**masks, noise=True)  # type: ignore[arg-type]
    assert torch.equal(augment_spectrogram(spec, every, draws, both, 0.5), noisy)
    with pytest.raises(UserError, match="masks"):
        AugmentConfig(masks="outside")  # type: ignore[arg-type]


def test_noise_is_small_positive_and_rolled_inside_the_clip() -> None:
    frames = torch.arange(100.0)[None, :, None].expand(64, 100, 8) * 10
    lengths = torch.tensor([100, 60, 20, 1] * 16)
    out = augment_spectrogram(frames.clone(), lengths, draws_of(), AugmentConfig(noise=True))
    shifts = set()
    for clip, length in zip(out, lengths.tolist(), strict=True):
        assert torch.equal(clip[length:], frames[0, length:])
        source = (clip[:length] / 10).floor()
        noise = clip[:length] - 10 * source
        assert 0 <= noise.min() <= noise.max() < 0.1
        assert (source[:, :1] == source).all()
        shift = int((torch.arange(length) - source[:, 0])[0]) % length
        assert torch.equal(source[:, 0], (torch.arange(length) - shift) % length)
        if length == 100:
            shifts.add((shift + 10) % 100)
    assert shifts <= set(range(20))
    assert len(shifts) > 5


def test_noise_is_uniform_and_differs_between_clips_and_cells() -> None:
    draws = draws_of(8)
    draws[:, 5:6] = 0.999  # strength
    draws[:, 6] = 0.5  # no shift
    zeros = torch.zeros(8, 100, 100)
    out = augment_spectrogram(zeros, torch.full((8,), 100), draws, AugmentConfig(noise=True))
    flat = out.reshape(8, -1) / 0.0999
    assert abs(flat.mean() - 0.5) < 0.005
    assert abs(flat.std() - 12**-0.5) < 0.005
    between = torch.corrcoef(flat).fill_diagonal_(0).abs().max()
    along = torch.corrcoef(torch.stack([flat[0, :-1], flat[0, 1:]]))[0, 1].abs()
    assert between < 0.05
    assert along < 0.05


def test_a_clip_is_augmented_alike_alone_and_in_a_padded_batch() -> None:
    config = AugmentConfig(freq_mask=10, time_mask=30)
    spec, draws = spec_of(4), draws_of(4)
    lengths = torch.tensor([100, 50, 70, 20])
    together = augment_spectrogram(spec, lengths, draws, config)
    alone = augment_spectrogram(spec[1:2, :50], lengths[1:2], draws[1:2], config)
    assert torch.equal(together[1, :50], alone[0])


def test_nothing_asked_changes_nothing() -> None:
    spec = spec_of()
    assert not AugmentConfig().on_spectrogram
    assert augment_spectrogram(spec, torch.full((64,), 100), draws_of(), AugmentConfig()) is spec


@pytest.mark.parametrize(
    "options", [{"mixup": 1.5}, {"mixup_alpha": 0.0}, {"time_mask": -1}, {"gain_db": -3.0}]
)
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        AugmentConfig(**options)  # type: ignore[arg-type]
