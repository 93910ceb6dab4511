"""Masked autoencoding: the formula, what reaches the encoder, padding, learning, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.pretraining.objectives import (
    LENGTHS,
    SAMPLES,
    SMALL,
    assert_it_learns,
    assert_padding_changes_nothing,
    assert_resumed_is_the_same,
    frames_encoder,
    some_batch,
)
from torch import Tensor

from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.nn.decoders import DecoderConfig, TransformerDecoder
from sonoformer.nn.masks import Split, draw_split
from sonoformer.nn.positions import sincos
from sonoformer.nn.tokens import Patches
from sonoformer.pretraining.mae import Mae, MaeConfig
from sonoformer.pretraining.objective import columns


def model_of(**options: object) -> Mae:
    torch.manual_seed(0)
    return Mae(AstEncoder(SMALL), MaeConfig(**options), SAMPLES).eval()  # type: ignore[arg-type]


def parts(model: Mae, lengths: list[int]) -> tuple[Patches, Split]:
    batch = some_batch(model, len(lengths), lengths)
    patches = model.cut(batch)
    ratio, masking = model.config.mask_ratio, model.config.masking
    return patches, draw_split(model.random(batch), columns(patches), patches.grid, ratio, masking)


def literal_decoder(
    decoder: TransformerDecoder, prefix: Tensor, seen: dict[int, Tensor], hidden: list[int], grid
) -> list[Tensor]:
    """One clip: real tokens in the order of their ids, mask tokens at the hidden places."""
    positions = sincos(grid, decoder.mask_token.shape[0])
    ids = sorted([*seen, *hidden])
    row = [decoder.embed(x) for x in prefix]
    for i in ids:
        row.append((decoder.embed(seen[i]) if i in seen else decoder.mask_token) + positions[i])
    x = torch.stack(row).unsqueeze(0)
    for block in decoder.blocks:
        x = block(x)
    x = decoder.out(decoder.norm(x))[0, len(prefix) :]
    return [x[ids.index(i)] for i in hidden]


def literal(model: Mae, patches: Patches, split: Split) -> Tensor:
    """Clip by clip, token by token."""
    losses = []
    for clip, pixels in enumerate(patches.pixels):
        shown = split.visible.ids[clip][split.visible.keep[clip]].tolist()
        hidden = split.hidden.ids[clip][split.hidden.keep[clip]].tolist()
        positions = model.encoder.position_table(patches.grid)
        rows = [model.encoder.patch_embed(pixels[i]) + positions[i] for i in shown]
        x = torch.stack(rows) if rows else torch.empty(0, model.encoder.dim)
        tokens = model.encoder.encode(x.unsqueeze(0), None, patches.grid)
        prefix, outputs = tokens.x[0, : tokens.prefix], tokens.x[0, tokens.prefix :]
        seen = dict(zip(shown, outputs, strict=True))
        predicted = literal_decoder(model.decoder, prefix, seen, hidden, patches.grid)
        errors = []
        for i, prediction in zip(hidden, predicted, strict=True):
            target = pixels[i].double()
            if model.config.target == "normalised":
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            errors.append(((prediction.double() - target) ** 2).mean())
        losses.append(torch.stack(errors).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("target", ["normalised", "pixels"])
@pytest.mark.parametrize("lengths", [[SAMPLES] * 2, LENGTHS])
def test_the_loss_is_the_formula(target: str, lengths: list[int]) -> None:
    model = model_of(target=target)
    patches, split = parts(model, lengths)
    loss, expected = model.error(patches, split), literal(model, patches, split)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=2e-6)
    weights = list(model.parameters())
    ours = torch.autograd.grad(loss, weights)
    for a, b in zip(ours, torch.autograd.grad(expected, weights), strict=True):
        assert (a - b).abs().max() < 2e-6 + 1e-4 * b.abs().max()


def test_only_visible_pixels_are_seen_and_targets_have_no_gradient() -> None:
    model = model_of(target="pixels")
    patches, split = parts(model, LENGTHS)
    pixels = patches.pixels.clone().requires_grad_()
    model.error(patches._replace(pixels=pixels), split).backward()
    grew = pixels.grad.abs().sum(-1) > 0
    assert torch.equal(grew, split.visible.dense(pixels.shape[1]) & patches.valid)


@pytest.mark.parametrize("masking", ["random", "inverse", "centred"])
@pytest.mark.parametrize("kind", ["transformer", "conv"])
def test_padding_changes_nothing(masking: str, kind: str) -> None:
    model = model_of(masking=masking, decoder=DecoderConfig(kind=kind))
    assert_padding_changes_nothing(model, LENGTHS, {"mse"})


def test_clips_of_one_token() -> None:
    torch.manual_seed(0)
    model = Mae(AstEncoder(frames_encoder()), MaeConfig(), SAMPLES)
    batch = some_batch(model, 2, [400, 500])
    assert model.cut(batch).pixels.shape[1] == 1
    loss, _ = model.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert_padding_changes_nothing(model.eval(), [SAMPLES, 400, 500], {"mse"})


def test_every_weight_learns_and_masks_follow_the_noise() -> None:
    model = model_of().train()
    batch = some_batch(model, 3)
    value, metrics = model.loss(batch)
    value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert set(metrics) == {"mse"}
    assert model.loss(batch)[0].item() == value.item()
    batch.noise = batch.noise.roll(1, 0)
    assert model.loss(batch)[0].item() != value.item()


def test_validation_tells_the_rank() -> None:
    model = model_of()
    found = model.evaluate(some_batch(model, 4))
    rank, count = found["rank"]
    assert count == 4
    assert 1 <= rank / count <= 4
    assert model.kept() is model.encoder


def test_it_learns_fades() -> None:
    assert_it_learns(model_of(target="pixels").train(), 0.6)


def test_resumed_is_the_same(tmp_path: Path) -> None:
    assert_resumed_is_the_same(lambda: model_of().train(), tmp_path)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_bad_options_are_refused(ratio: float) -> None:
    with pytest.raises(UserError, match="mask_ratio"):
        MaeConfig(mask_ratio=ratio)
