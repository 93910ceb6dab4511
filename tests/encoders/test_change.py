"""The same weights under another configuration: tables of positions at new lengths."""

from __future__ import annotations

import pytest
import torch

from sonoformer.encoders import AstEncoder, ast_config, with_stride, with_table
from sonoformer.nn.positions import by_reference, by_seconds, covers, resampled, stretched


def encoder(tokens: str = "patch", **changes: object) -> AstEncoder:
    torch.manual_seed(0)
    return AstEncoder(ast_config(dim=8, heads=1, depth=1, tokens=tokens, **changes)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "grid", "stride"),
    [("patch", (8, 12), None), ("patch", (12, 101), (10, 10)), ("frame", (1, 200), (128, 1))],
)
def test_places_inside_the_old_span_keep_their_positions(
    tokens: str, grid: tuple[int, int], stride: tuple[int, int] | None
) -> None:
    old = encoder(tokens)
    new = with_table(old, grid, stride)
    own = old.config.stride if stride is None else stride
    assert (new.config.table, new.config.table_stride, new.config.stride) == (grid, own, own)
    read = with_stride(old, own).position_table(grid)
    torch.testing.assert_close(new.position_table(grid), read)
    assert new.pos_embed.shape == (1, 2 + grid[0] * grid[1], 8)
    assert torch.equal(new.pos_embed[:, :2], old.pos_embed[:, :2])
    torch.testing.assert_close(new.norm.weight, old.norm.weight)
    # The encoders agree wherever the new table reaches, also at fewer tokens.
    wave = torch.randn(1, 16000 * grid[1] * own[1] // 100 // 2) * 0.1
    with torch.no_grad():
        expected = with_stride(old, own)(wave).x
        torch.testing.assert_close(new(wave).x, expected, atol=1e-5, rtol=0)


def test_a_table_for_longer_clips_is_stretched_in_time_alone() -> None:
    old = encoder()
    new = with_table(old, (8, 124))
    table = old.pos_embed[0, 2:].T.reshape(8, 8, 64)
    expected = stretched(table, 8, 124).reshape(8, -1).T
    torch.testing.assert_close(new.position_table((8, 124)), expected)
    # By seconds all later tokens would begin with one position.
    alone = new.position_table((8, 124)).reshape(8, 124, 8)[0]
    assert len(torch.unique(alone, dim=0)) == 124


def test_a_stretched_axis_leaves_the_other_one_by_place() -> None:
    table = torch.randn(3, 12, 20)
    got = resampled(table, (8, 40), (16, 16), (10, 10))
    rows = by_seconds(table, (8, 20), (16, 10), (10, 10)).T.reshape(3, 8, 20)
    torch.testing.assert_close(got, stretched(rows, 8, 40))


@pytest.mark.parametrize("grid", [(12, 50), (12, 101)])
def test_a_table_by_the_authors_rule_is_what_they_learn_on(grid: tuple[int, int]) -> None:
    old = encoder()
    new = with_table(old, grid, (10, 10), rule="reference")
    table = old.pos_embed[0, 2:].T.reshape(8, 8, 64)
    torch.testing.assert_close(new.position_table(grid), by_reference(table, grid))


def test_the_old_encoder_is_left_alone_and_the_new_one_learns() -> None:
    old = encoder(front=ast_config().front).train()
    before = old.pos_embed.clone()
    new = with_table(old, (8, 70))
    assert new.training
    new(torch.randn(1, 16000 * 11)).x.square().mean().backward()
    assert old.pos_embed.grad is None
    assert new.pos_embed.grad is not None
    assert (new.pos_embed.grad.reshape(8 * 70 + 2, 8)[2:70] != 0).any(1).all()
    assert torch.equal(old.pos_embed, before)


@pytest.mark.parametrize(
    ("count", "stride", "inside"),
    [
        (64, 16, True),
        (65, 16, False),
        (101, 10, True),
        (103, 10, False),
        (32, 32, True),
        (34, 32, False),
    ],
)
def test_a_table_covers_what_gets_positions_of_its_own(
    count: int, stride: int, inside: bool
) -> None:
    assert covers(64, 16, count, stride) == inside
    table = torch.arange(64.0).reshape(1, 1, 64)
    read = by_seconds(table, (1, count), (1, stride), (1, 16))
    assert (len(torch.unique(read)) == count) == inside
