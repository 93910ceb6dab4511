"""Rectangles: the loop cell by cell, and its statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.nn.rectangles import FEW, MANY, arrivals, as_pixels, cell_count, until

SHAPE = (592, 128)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def draw(
    noise: Tensor, frames: Tensor, shape: tuple[int, int], area: Tensor, align: tuple[int, int]
) -> Tensor:
    found = arrivals(noise, frames, shape, align)
    cells = until(found, area * cell_count(frames, shape, align), noise.shape[1] // 4)
    return as_pixels(cells, frames, shape, align)


def by_the_loop(
    noise: np.ndarray, frames: int, bins: int, area: float, align: int, stretch: str = "none"
) -> np.ndarray:
    """One rectangle after the other into an array of the real spectrogram."""
    mask = np.zeros((frames, bins), bool)
    sides = [-(-frames // align) * align, bins]
    for u in noise.reshape(4, -1).T.astype(np.float32):
        if mask.sum() >= np.float32(area) * frames * bins:
            break
        cut = []
        for axis, size in enumerate(sides):
            first = int(u[2 * axis] * np.float32(size)) // align * align
            longest = max(1, int(size * 0.3 + 1e-9) - align)
            end = min(first + align + int(u[2 * axis + 1] * np.float32(longest)), size)
            end = (end + align // 2) // align * align
            whole = stretch == ("frequency", "time")[axis]
            cut.append(slice(0, size) if whole else slice(first, end))
        mask[cut[0], cut[1]] = True
    return mask


@given(
    seed=st.integers(0, 10**6),
    frames=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    align=st.sampled_from([1, 2, 4]),
    area=st.floats(0, 1),
    stretch=st.sampled_from(["none", "time", "frequency"]),
)
@settings(max_examples=40, deadline=None)
def test_masks_are_the_loops(
    seed: int, frames: list[int], align: int, area: float, stretch: Any
) -> None:
    frames = [-(-f // align) * align for f in frames]
    noise, shape, real = uniform(len(frames), 4 * MANY, seed=seed), (92, 16), torch.tensor(frames)
    cells = (align, align)
    found = arrivals(noise, real, shape, cells, stretch)
    wanted = torch.full((len(frames),), area) * cell_count(real, shape, cells)
    mask = as_pixels(until(found, wanted, MANY), real, shape, cells).numpy()
    for row, count in enumerate(frames):
        expected = by_the_loop(noise[row].numpy(), count, 16, area, align, stretch)
        assert np.array_equal(mask[row, :count], expected)
        assert not mask[row, count:].any()


@pytest.mark.parametrize(
    ("align", "kind", "covered", "clean", "full"),
    [
        (1, "own", 60.6, 15.5, 31.0),
        (1, "alien", 31.0, 45.0, 12.0),
        (16, "own", 61.3, 38.7, 61.3),
        (16, "alien", 31.7, 68.3, 31.7),
    ],
)
def test_statistics_are_the_published_laws(
    align: int, kind: str, covered: float, clean: float, full: float
) -> None:
    """Shares in percent of pixels, and of 16 x 16 patches without and with all of theirs."""
    clips = 240
    count = MANY if kind == "own" else FEW
    noise, frames = uniform(clips, 4 * count), torch.full((clips,), 592)
    area = torch.linspace(0.5, 0.7, clips) if kind == "own" else torch.full((clips,), 0.3)
    parts = zip(noise.split(40), frames.split(40), area.split(40), strict=True)
    mask = torch.cat([draw(n, f, SHAPE, a, (align, align)) for n, f, a in parts])
    share = mask.float().mean((1, 2))
    assert (share >= area - 1e-6).all()
    patches = mask.unflatten(2, (8, 16)).unflatten(1, (37, 16)).float().mean((2, 4))
    found = [100 * float(x.float().mean()) for x in (share, patches == 0, patches == 1)]
    assert found == pytest.approx([covered, clean, full], abs=1.0)
