"""Strides from the length of a position table: known models, ambiguity, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.encoders.ast_grid import candidates, choose, fit
from sonoformer.errors import UserError

PATCH, FRAME = (16, 16), (128, 2)


@pytest.mark.parametrize(
    ("patches", "stride", "grid", "frames"),
    [
        (1212, 10, (12, 101), 1024),  # AST on AudioSet, overlaps of 6, 4, 2 and 0
        (850, 12, (10, 85), 1024),
        (657, 14, (9, 73), 1024),
        (512, 16, (8, 64), 1024),
        (1188, 10, (12, 99), 1000),
    ],
)
def test_published_tables_that_fit_one_stride(
    patches: int, stride: int, grid: tuple[int, int], frames: int
) -> None:
    fits = {one.stride: one for one in candidates(patches, PATCH, 128)}
    assert fits[stride, stride].grid == grid
    assert fits[stride, stride].frames == frames
    if len(fits) == 1:
        assert choose(patches, PATCH, 128, None, "f").stride == (stride, stride)


def test_a_table_of_one_stride_is_known_without_a_flag() -> None:
    for patches in (1212, 850, 657):
        assert len(candidates(patches, PATCH, 128)) == 1


@pytest.mark.parametrize(
    ("patches", "patch", "said"),
    [
        (144, PATCH, r"10 10 \(12 x 12 patches, 126 to 135 frames\); 14 14 \(9 x 16 .*; 16 16 \(8"),
        (1023, FRAME, r"128 1 \(1 x 1023 patches, 1024 to 1024 frames\); 128 2 \(1 x 1023 "),
    ],
)
def test_several_strides_are_listed_with_the_flag(
    patches: int, patch: tuple[int, int], said: str
) -> None:
    with pytest.raises(UserError, match=rf"several strides: {said}.*give --stride BINS FRAMES"):
        choose(patches, patch, 128, None, "x.pth")


def test_nothing_fits() -> None:
    with pytest.raises(UserError, match="fits no published stride; give --stride"):
        choose(1213, PATCH, 128, None, "x.pth")
    with pytest.raises(UserError, match=r"--stride 10 10: does not fit x\.pth"):
        choose(1213, PATCH, 128, (10, 10), "x.pth")


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 16), st.integers(16, 200))
def test_every_length_between_gives_the_grid(columns: int, high: int, long: int, bins: int) -> None:
    rows = (bins - 16) // high + 1
    found = fit(rows * columns, PATCH, (high, long), bins)
    assert found is not None
    for frames in (found.shortest, found.longest):
        assert ((bins - 16) // high + 1, (frames - 16) // long + 1) == found.grid
    assert (found.longest + 1 - 16) // long + 1 == columns + 1
