"""Position tables on other grids: by place in seconds and hertz, and by the authors' rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.nn.positions import by_reference, by_seconds

TABLE = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(0))
strides = st.tuples(st.integers(1, 24), st.integers(1, 24))


@given(stride=strides, rows=st.integers(1, 6), long=st.integers(2, 30), data=st.data())
def test_a_place_does_not_depend_on_the_clips_length(
    stride: tuple[int, int], rows: int, long: int, data: st.DataObject
) -> None:
    short = data.draw(st.integers(1, long))
    whole = by_seconds(TABLE, (rows, long), stride, (16, 16)).reshape(rows, long, 3)
    part = by_seconds(TABLE, (rows, short), stride, (16, 16)).reshape(rows, short, 3)
    torch.testing.assert_close(part, whole[:, :short])


@given(stride=strides, rows=st.integers(1, 6), columns=st.integers(1, 30))
def test_both_axes_are_read_linearly_at_the_tokens_places(
    stride: tuple[int, int], rows: int, columns: int
) -> None:
    ours = by_seconds(TABLE, (rows, columns), stride, (16, 16)).reshape(rows, columns, 3)
    f = (torch.arange(rows) * stride[0] / 16).clamp(max=3)
    t = (torch.arange(columns) * stride[1] / 16).clamp(max=8)
    # grid_sample reads at places in -1..1 from the first cell to the last.
    places = torch.stack(torch.meshgrid(f / 3 * 2 - 1, t / 8 * 2 - 1, indexing="ij"), -1).flip(-1)
    theirs = F.grid_sample(TABLE[None], places[None], align_corners=True, padding_mode="border")
    torch.testing.assert_close(ours, theirs[0].permute(1, 2, 0), atol=1e-5, rtol=0)


def test_the_tables_own_grid_is_the_table_by_either_rule() -> None:
    own = TABLE.reshape(3, -1).T
    assert torch.equal(by_seconds(TABLE, (4, 9), (16, 16), (16, 16)), own)
    assert torch.equal(by_reference(TABLE, (4, 9)), own)


def test_the_authors_rule_crops_the_centre_and_stretches_the_rest() -> None:
    crop = by_reference(TABLE, (2, 5)).T.reshape(3, 2, 5)
    assert torch.equal(crop, TABLE[:, 1:3, 2:7])
    wide = by_reference(TABLE, (6, 20)).T.reshape(3, 6, 20)
    once = F.interpolate(TABLE[None], (4, 20), mode="bilinear")
    twice = F.interpolate(once, (6, 20), mode="bilinear")[0]
    torch.testing.assert_close(wide, twice)


def test_the_table_learns_through_both_rules() -> None:
    table = TABLE.clone().requires_grad_()
    by_seconds(table, (7, 15), (10, 10), (16, 16)).square().sum().backward()
    assert (table.grad != 0).all()
    table.grad = None
    by_reference(table, (7, 15)).square().sum().backward()
    assert (table.grad != 0).all()
