"""Patches: order, counts, and which of them are real."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.nn.patches import PatchEmbed, cut, grid_of, valid_patches

sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(patch=sizes, stride=sizes, frames=st.integers(1, 40), bins=st.integers(6, 14))
def test_the_product_is_a_convolution(
    patch: tuple[int, int], stride: tuple[int, int], frames: int, bins: int
) -> None:
    spec, embed = torch.randn(2, frames, bins), PatchEmbed(5, patch)
    image = F.pad(spec, (0, 0, 0, max(0, patch[1] - frames))).transpose(1, 2).unsqueeze(1)
    theirs = F.conv2d(image, embed.proj.weight, embed.proj.bias, stride)
    ours = embed(cut(spec, patch, stride))
    assert grid_of(bins, frames, patch, stride) == tuple(theirs.shape[2:])
    torch.testing.assert_close(ours, theirs.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)


@given(patch=sizes, stride=sizes, lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_a_clips_real_patches_do_not_depend_on_its_batch(
    patch: tuple[int, int], stride: tuple[int, int], lengths: list[int]
) -> None:
    grid = grid_of(12, max(lengths), patch, stride)
    valid = valid_patches(torch.tensor(lengths), grid, patch, stride)
    for row, length in zip(valid.reshape(-1, *grid), lengths, strict=True):
        alone = grid_of(12, length, patch, stride)
        assert row[:, : alone[1]].all()
        assert not row[:, alone[1] :].any()


def test_a_short_clip_is_padded_with_what_is_asked_for() -> None:
    pixels = cut(torch.ones(1, 2, 4), (4, 3), (4, 3), fill=7.0).reshape(4, 3)
    assert pixels.tolist() == [[1, 1, 7]] * 4


@pytest.mark.parametrize(
    ("frames", "patch", "stride", "tokens"),
    [
        (1024, (16, 16), (10, 10), 1212),
        (512, (16, 16), (10, 10), 600),
        (128, (16, 16), (10, 10), 144),
        (1024, (16, 16), (16, 16), 512),
        (1024, (128, 2), (128, 1), 1023),
        (1024, (128, 2), (128, 2), 512),
    ],
)
def test_token_counts_are_the_papers(
    frames: int, patch: tuple[int, int], stride: tuple[int, int], tokens: int
) -> None:
    freq, time = grid_of(128, frames, patch, stride)
    assert freq * time == tokens
    assert cut(torch.zeros(1, frames, 128), patch, stride).shape == (1, tokens, 256)
