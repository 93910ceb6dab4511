"""Masks: the authors' law cell by cell, fair centred clusters, only real tokens hidden."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.nn.masks import draw_mask, draw_split, masked_count, noise_count

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ssast"
GRID = (8, 64)
MASKINGS = ("centred", "reference", "random", "inverse")


def noise(masking: str, grid: tuple[int, int], clips: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clips, noise_count(masking, grid), generator=generator)


def full(clips: int, grid: tuple[int, int] = GRID) -> torch.Tensor:
    return torch.full((clips,), grid[1])


def authors_mask(
    side: int, starts: list[int], wanted: int, tokens: int, width: int
) -> tuple[list[int], list[int]]:
    """The authors' loop, fed with starts in the order drawn; also the starts it used."""
    ids: list[int] = []
    used = []
    for start in starts:
        if len(set(ids)) > wanted:
            break
        used.append(start)
        for i in range(side):
            for j in range(side):
                candidate = start + width * i + j
                if 0 < candidate < tokens:
                    ids.append(candidate)
    return sorted(set(ids))[:wanted], used


def noise_for(side: int, order: list[int], grid: tuple[int, int]) -> torch.Tensor:
    """Noise under which a clip that fills the grid visits the starts in this order."""
    freq, time = grid
    ranked = list(dict.fromkeys(order))
    seen = set(ranked)
    ranked += [s for s in range(freq * time) if s not in seen]
    values = torch.empty(freq * time)
    for rank, start in enumerate(ranked):
        values[start % time * freq + start // time] = (rank + 0.5) / (freq * time)
    return torch.cat([torch.tensor([(side - 3 + 0.5) / 3]), values]).unsqueeze(0)


@given(
    seed=st.integers(0, 10**6),
    freq=st.integers(1, 8),
    time=st.integers(2, 40),
    ratio=st.floats(0.05, 0.95),
)
@settings(max_examples=60, deadline=None)
def test_reference_is_the_authors_loop(seed: int, freq: int, time: int, ratio: float) -> None:
    rng = random.Random(seed)
    tokens = freq * time
    wanted = masked_count(tokens, ratio)
    side = rng.choice((3, 4, 5))
    starts = [rng.randrange(tokens) for _ in range(8 * tokens)]
    starts += rng.sample(range(tokens), tokens)  # an end even where the authors' loop has none
    expected, _ = authors_mask(side, starts, wanted, tokens, time)
    drawn = draw_mask(
        noise_for(side, starts, (freq, time)),
        torch.tensor([time]),
        (freq, time),
        ratio,
        "reference",
    )
    assert drawn.ids[0].tolist() == expected
    assert drawn.keep.all()


def python_mask(seed: int, wanted: int) -> tuple[int, list[int], list[int]]:
    """Side, starts and mask of the authors' generator after `random.seed(seed)`."""
    rng = random.Random(seed)
    side = rng.randrange(3) + 3
    starts = [rng.randrange(512) for _ in range(4000)]
    mask, used = authors_mask(side, starts, wanted, 512, 64)
    return side, used, mask


def test_reference_repeats_the_authors_own_masks() -> None:
    stored = np.load(FIXTURES / "mask_statistics_patch.npz")
    cases = list(zip(stored["example_seeds"], stored["example_masks_n400"], strict=True))
    for count in (100, 400):
        pretrain = np.load(FIXTURES / f"pretrain_patch_tiny_n{count}_wide.npz")
        cases += list(zip(pretrain["mask_seeds"], pretrain["masks"], strict=True))
    assert len(cases) == 12
    for seed, expected in cases:
        side, starts, mask = python_mask(int(seed), len(expected))
        assert mask == expected.tolist()
        drawn = draw_mask(
            noise_for(side, starts, GRID), full(1), GRID, len(expected) / 512, "reference"
        )
        assert drawn.ids[0].tolist() == expected.tolist()


@pytest.mark.parametrize("count", [400, 250, 100])
def test_reference_has_the_authors_statistics(count: int) -> None:
    stored = np.load(FIXTURES / "mask_statistics_patch.npz")
    clips = 2000
    drawn = draw_mask(
        noise("reference", GRID, clips, seed=count), full(clips), GRID, count / 512, "reference"
    )
    hidden = drawn.dense(512).reshape(clips, *GRID).numpy().astype(np.float64)
    for axis, name in ((2, "row"), (1, "col")):
        rate, spread = hidden.mean(axis).mean(0), hidden.mean(axis).std(0)
        whole = "frequency_row" if name == "row" else "time_column"
        expected = stored[f"n{count}_rate_per_{whole}"]
        expected_spread = stored[f"n{count}_{name}_rate_std_over_masks"]
        error = expected_spread * np.sqrt(1 / clips + 1 / int(stored["number_of_masks"]))
        # 72 comparisons a count: 4.5 standard errors happen by chance once in 2000 runs.
        assert np.abs((rate - expected) / error).max() < 4.5
        assert np.abs(spread / expected_spread - 1).max() < 0.12
    pairs = (hidden[:, 1:] * hidden[:, :-1]).sum((1, 2))
    pairs += (hidden[:, :, 1:] * hidden[:, :, :-1]).sum((1, 2))
    mean, spread = stored[f"n{count}_masked_neighbour_pairs_mean_std"]
    assert abs(pairs.mean() - mean) < 4.5 * spread * np.sqrt(1 / clips + 1 / 2000)
    assert not hidden[:, 0, 0].any()


@pytest.mark.parametrize(
    ("count", "grid", "stray"),
    [(400, GRID, 0.01), (250, GRID, 0.01), (100, GRID, 0.01), (400, (8, 7), 0.025)],
)
def test_centred_is_fair_to_every_row_and_column(
    count: int, grid: tuple[int, int], stray: float
) -> None:
    clips, ratio = 1500, count / 512
    drawn = draw_mask(
        noise("centred", grid, clips, seed=1), full(clips, grid), grid, ratio, "centred"
    )
    hidden = drawn.dense(grid[0] * grid[1]).reshape(clips, *grid).double()
    wanted = masked_count(grid[0] * grid[1], ratio) / (grid[0] * grid[1])
    for axis in (1, 2):
        rates = hidden.mean(axis)
        error = rates.std(0) / clips**0.5
        # Stopping at N makes the law itself stray by this much; see `draw_mask`.
        assert ((rates.mean(0) - wanted).abs() < 4.5 * error + stray * wanted).all()


def test_centred_hides_clusters_that_do_not_wrap() -> None:
    clips = 500
    drawn = draw_mask(noise("centred", GRID, clips), full(clips), GRID, 9 / 512, "centred")
    hidden = drawn.dense(512).reshape(clips, *GRID)
    pairs = (hidden[:, 1:] & hidden[:, :-1]).sum((1, 2))
    pairs = pairs + (hidden[:, :, 1:] & hidden[:, :, :-1]).sum((1, 2))
    scattered = draw_mask(noise("random", GRID, clips), full(clips), GRID, 9 / 512, "random")
    assert pairs.double().mean() > 6  # a 3 x 3 square has 12 neighbour pairs; 9 lone cells 0.3
    lone = scattered.dense(512).reshape(clips, *GRID)
    assert (lone[:, 1:] & lone[:, :-1]).sum() < 0.05 * pairs.sum()
    # One square alone: rows and columns of what is hidden are each a run, so nothing wrapped.
    one = hidden[(hidden.sum((1, 2)) == 9) & (pairs == 12)]
    assert len(one) > 20
    columns = one.any(1).float()
    assert ((columns[:, 1:] - columns[:, :-1]).abs().sum(1) <= 2).all()


@pytest.mark.parametrize("masking", MASKINGS)
@given(
    seed=st.integers(0, 10**6),
    freq=st.integers(1, 8),
    time=st.integers(1, 24),
    ratio=st.floats(0.001, 1.0),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_only_real_tokens_are_hidden_and_as_many_as_asked(
    masking: str, seed: int, freq: int, time: int, ratio: float, data: st.DataObject
) -> None:
    columns = torch.tensor(data.draw(st.lists(st.integers(1, time), min_size=1, max_size=5)))
    grid = (freq, time)
    drawn = draw_mask(noise(masking, grid, len(columns), seed), columns, grid, ratio, masking)
    assert drawn.ids.shape == drawn.keep.shape == (len(columns), masked_count(freq * time, ratio))
    dense = drawn.dense(freq * time).reshape(-1, freq, time)
    for clip, width in enumerate(columns.tolist()):
        count = masked_count(freq * width, ratio)
        assert int(drawn.keep[clip].sum()) == count == int(dense[clip].sum())
        assert not dense[clip, :, width:].any()
        kept = drawn.ids[clip][drawn.keep[clip]]
        assert (kept.diff() > 0).all()
        assert dense[clip].flatten()[drawn.ids[clip]].all()
        tokens = freq * width
        assert count == (
            1 if tokens == 1 else min(max(1, int(tokens * ratio + 0.5)), tokens - 1)
        ) or (abs(tokens * ratio % 1 - 0.5) < 1e-3)


@pytest.mark.parametrize("masking", MASKINGS)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 20), padding=st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_padding_does_not_change_a_mask(masking: str, seed: int, width: int, padding: int) -> None:
    wide = (8, width + padding)
    numbers = noise(masking, wide, 1, seed)
    columns = torch.tensor([width])
    alone = draw_mask(numbers, columns, (8, width), 0.6, masking).dense(8 * width)
    padded = draw_mask(numbers, columns, wide, 0.6, masking).dense(8 * wide[1]).reshape(1, *wide)
    assert torch.equal(alone.reshape(1, 8, width), padded[..., :width])


def test_a_clip_without_tokens_hides_nothing() -> None:
    for masking in MASKINGS:
        columns = torch.tensor([0, 5])
        drawn = draw_mask(noise(masking, (8, 5), 2), columns, (8, 5), 0.5, masking)
        assert drawn.keep.sum(1).tolist() == [0, 20]
        assert int(drawn.ids.max()) < 40


def test_too_little_noise_is_named() -> None:
    with pytest.raises(ValueError, match="513 random numbers"):
        draw_mask(torch.rand(2, 100), full(2), GRID, 0.5, "reference")


# Visible squares, and both sides of a mask --------------------------------------------------------


def literal_inverse(numbers: list[float], freq: int, width: int, ratio: float) -> set[int]:
    """Which tokens of a clip `width` columns wide are hidden: EAT's law with loops.

    `numbers` are laid out by column: of each, one a row for the places, then one a row for ties.
    """
    cells = [(f, t) for f in range(freq) for t in range(width)]
    place = {(f, t): numbers[t * 2 * freq + f] for f, t in cells}
    tie = {(f, t): numbers[t * 2 * freq + freq + f] for f, t in cells}
    squares = max(1, int(len(cells) * (1 - ratio + 0.07) / 25))
    centres = sorted(cells, key=place.__getitem__)[:squares]
    inside = {
        (f, t): any(abs(f - cf) <= 2 and abs(t - ct) <= 2 for cf, ct in centres) for f, t in cells
    }
    order = sorted(cells, key=lambda cell: (inside[cell], tie[cell]))
    return {f * width + t for f, t in order[: masked_count(len(cells), ratio)]}


@given(
    seed=st.integers(0, 10**6),
    freq=st.integers(1, 8),
    time=st.integers(1, 24),
    ratio=st.floats(0.05, 0.95),
)
@settings(max_examples=60, deadline=None)
def test_inverse_leaves_squares_visible(seed: int, freq: int, time: int, ratio: float) -> None:
    numbers = noise("inverse", (freq, time), 1, seed)
    hidden = draw_mask(numbers, torch.tensor([time]), (freq, time), ratio, "inverse")
    expected = literal_inverse(numbers[0].tolist(), freq, time, ratio)
    assert set(hidden.ids[0].tolist()) == expected


def test_inverse_has_eats_numbers() -> None:
    clips = 300
    drawn = draw_split(noise("inverse", GRID, clips), full(clips), GRID, 0.8, "inverse")
    assert drawn.visible.ids.shape == (clips, 102)
    seen = drawn.visible.dense(512).reshape(clips, *GRID)
    pairs = (seen[:, 1:] & seen[:, :-1]).sum((1, 2)) + (seen[..., 1:] & seen[..., :-1]).sum((1, 2))
    # 102 lone cells of 512 have 38 neighbour pairs; five squares of 25, less some cells, above 100.
    assert pairs.double().mean() > 100
    rate = seen.double().mean(0)
    assert rate.min() > 0.05
    assert rate.max() < 0.35


@pytest.mark.parametrize("masking", MASKINGS)
@given(
    seed=st.integers(0, 10**6),
    freq=st.integers(1, 8),
    time=st.integers(1, 24),
    ratio=st.floats(0.001, 0.999),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_hidden_and_visible_share_the_real_tokens(
    masking: str, seed: int, freq: int, time: int, ratio: float, data: st.DataObject
) -> None:
    columns = torch.tensor(data.draw(st.lists(st.integers(0, time), min_size=1, max_size=5)))
    numbers = noise(masking, (freq, time), len(columns), seed)
    split = draw_split(numbers, columns, (freq, time), ratio, masking)
    alone = draw_mask(numbers, columns, (freq, time), ratio, masking)
    assert torch.equal(split.hidden.ids, alone.ids)
    assert torch.equal(split.hidden.keep, alone.keep)
    assert split.hidden.ids.shape[1] + split.visible.ids.shape[1] == freq * time
    for clip, width in enumerate(columns.tolist()):
        parts = [m.ids[clip][m.keep[clip]].tolist() for m in split]
        real = [f * time + t for f in range(freq) for t in range(width)]
        assert sorted(parts[0] + parts[1]) == real
        assert parts[1] == sorted(parts[1])
        assert len(parts[0]) == masked_count(len(real), ratio)
        repeats = split.visible.ids[clip][~split.visible.keep[clip]]
        assert set(repeats.tolist()) <= {parts[1][0] if parts[1] else freq * time - 1}
