"""Decoders: who is attended to, padding, the order of what is predicted, bad options."""

from __future__ import annotations

import pytest
import torch

from sonoformer.errors import UserError
from sonoformer.nn.decoders import Decoder, DecoderConfig, TransformerDecoder, make_decoder
from sonoformer.nn.masks import Split, draw_split, noise_count
from sonoformer.nn.positions import sincos
from sonoformer.nn.subsets import place

GRID = (4, 9)
TOKENS = GRID[0] * GRID[1]
KINDS = ("transformer", "conv")


def split_of(columns: list[int], grid: tuple[int, int] = GRID, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(columns), noise_count("random", grid), generator=generator)
    return draw_split(noise, torch.tensor(columns), grid, 0.7, "random")


def valid_of(columns: list[int], grid: tuple[int, int] = GRID) -> torch.Tensor:
    real = torch.arange(grid[1]) < torch.tensor(columns).unsqueeze(1)
    return real.unsqueeze(1).expand(-1, grid[0], -1).flatten(1)


def decoder_of(kind: str, **options: object) -> Decoder:
    torch.manual_seed(0)
    decoder = make_decoder(64, 10, DecoderConfig(kind=kind, **options))  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in decoder.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return decoder.eval()


def test_a_transformer_gives_what_it_gives_in_the_grids_own_order() -> None:
    decoder = decoder_of("transformer", depth=3)
    assert isinstance(decoder, TransformerDecoder)
    split, x = split_of([9, 9]), torch.randn(2, 2 + TOKENS - 25, 64)
    found = decoder(x, 2, split, valid_of([9, 9]), GRID)
    inner = decoder.embed(x)
    whole = place(inner[:, 2:], split.visible, TOKENS, decoder.mask_token)
    row = torch.cat([inner[:, :2], whole + sincos(GRID, 32)], 1)
    for block in decoder.blocks:
        row = block(row)
    every = decoder.out(decoder.norm(row))[:, 2:]
    for clip in range(2):
        expected = every[clip, split.hidden.ids[clip]]
        torch.testing.assert_close(found[clip], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    decoder = decoder_of(kind)
    columns = [9, 5, 1]
    split, x = split_of(columns), torch.randn(3, 2 + TOKENS - 25, 64)
    together = decoder(x, 2, split, valid_of(columns), GRID)
    for clip, width in enumerate(columns):
        grid = (GRID[0], width)
        hidden, visible = ([], [])
        for ids, mask in ((hidden, split.hidden), (visible, split.visible)):
            kept = mask.ids[clip][mask.keep[clip]]
            ids += (kept // GRID[1] * width + kept % GRID[1]).tolist()
        alone = Split(
            *(
                type(split.hidden)(torch.tensor([ids]).long(), torch.ones(1, len(ids)).bool())
                for ids in (hidden, visible)
            )
        )
        own = x[clip : clip + 1, : 2 + len(visible)]
        found = decoder(own, 2, alone, valid_of([width], grid), grid)
        torch.testing.assert_close(
            together[clip, split.hidden.keep[clip]], found[0], atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_visible_token_counts_and_repeats_do_not(kind: str) -> None:
    decoder = decoder_of(kind, depth=4)
    split, x = split_of([9, 3]), torch.randn(2, 2 + TOKENS - 25, 64, requires_grad=True)
    found = decoder(x, 2, split, valid_of([9, 3]), GRID)
    (found * split.hidden.keep.unsqueeze(-1)).square().sum().backward()
    grew = x.grad.abs().sum(-1) > 0
    assert torch.equal(grew[:, 2:], split.visible.keep)
    assert grew[:, :2].all() == (kind == "transformer")
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_widths_follow_the_encoder_unless_given() -> None:
    assert decoder_of("transformer").embed.out_features == 32
    assert decoder_of("transformer", width=48, heads=4).embed.out_features == 48
    assert decoder_of("conv").layers[0].out_channels == 64
    wide = decoder_of("conv", width=128)
    assert (wide.layers[0].in_channels, wide.layers[1].in_channels) == (64, 128)
    split, x = split_of([9]), torch.randn(1, 1 + TOKENS - 25, 64)
    assert wide(x, 1, split, valid_of([9]), GRID).shape == (1, 25, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": -1}, "decoder.width"),
        ({"heads": -1}, "decoder.heads"),
        ({"depth": 0}, "depth and groups"),
        ({"groups": 0}, "depth and groups"),
        ({"kernel": 2}, "decoder.kernel"),
        ({"width": 30}, "multiple of 4"),
        ({"width": 40, "heads": 3}, "3 heads"),
        ({"kind": "conv", "groups": 7}, "groups: 7"),
        ({"kind": "conv", "width": 40}, "decoder.width 40"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_decoder(64, 10, DecoderConfig(**options))
