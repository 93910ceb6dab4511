"""Masked modelling duo: the formula, who sees what, padding, learning, resuming."""

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
from tests.pretraining.test_mae import literal_decoder
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.nn.masks import Split, draw_split
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.nn.tokens import Patches
from sonoformer.pretraining.m2d import M2d, M2dConfig, cosine_distance
from sonoformer.pretraining.objective import columns

QUICK = MomentumConfig(0.9, 0.99, "linear")
SLOW = MomentumConfig(0.99, 0.999, "linear")


def model_of(**options: object) -> M2d:
    """Online and target encoder are not the same."""
    torch.manual_seed(0)
    options = {"momentum": QUICK} | options
    model = M2d(AstEncoder(SMALL), M2dConfig(**options), SAMPLES).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return model


def parts(model: M2d, batch: Batch) -> tuple[Patches, Split]:
    patches = model.cut(batch)
    ratio, masking = model.config.mask_ratio, model.config.masking
    return patches, draw_split(batch.noise, columns(patches), patches.grid, ratio, masking)


def outputs_of(
    encoder: AstEncoder, pixels: Tensor, ids: list[int], grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Prefix and token outputs of an encoder that sees the tokens `ids` of one clip."""
    positions = encoder.position_table(grid)
    rows = [encoder.patch_embed(pixels[i]) + positions[i] for i in ids]
    x = torch.stack(rows) if rows else torch.empty(0, encoder.dim)
    tokens = encoder.encode(x.unsqueeze(0), None, grid)
    return tokens.x[0, : tokens.prefix], tokens.x[0, tokens.prefix :]


def literal(model: M2d, patches: Patches, split: Split) -> Tensor:
    """Clip by clip, token by token: the squared distance of vectors of length 1."""
    losses = []
    for clip, pixels in enumerate(patches.pixels):
        shown = split.visible.ids[clip][split.visible.keep[clip]].tolist()
        hidden = split.hidden.ids[clip][split.hidden.keep[clip]].tolist()
        prefix, outputs = outputs_of(model.encoder, pixels, shown, patches.grid)
        seen = dict(zip(shown, outputs, strict=True))
        predicted = literal_decoder(model.decoder, prefix, seen, hidden, patches.grid)
        _, targets = outputs_of(model.teacher.model, pixels, hidden, patches.grid)
        errors = []
        for p, z in zip(predicted, targets.detach().double(), strict=True):
            z = (z - z.mean()) / (z.var() + 1e-6).sqrt()
            p = p.double()
            errors.append(((p / p.norm() - z / z.norm()) ** 2).sum())
        losses.append(torch.stack(errors).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("lengths", [[SAMPLES] * 2, LENGTHS])
def test_the_loss_is_the_formula(lengths: list[int]) -> None:
    model = model_of()
    patches, split = parts(model, some_batch(model, len(lengths), lengths))
    terms = model.terms(patches, split, model.targets(patches, split.hidden))
    loss, expected = model.total(terms), literal(model, patches, split)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=5e-6)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(loss, weights)
    for a, b in zip(ours, torch.autograd.grad(expected, weights), strict=True):
        assert (a - b).abs().max() < 2e-6 + 1e-4 * b.abs().max()


def test_distance_is_between_0_and_4_and_counts_each_clip_alike() -> None:
    target = torch.randn(2, 3, 5)
    keep = torch.tensor([[True] * 3, [True, False, False]])
    assert cosine_distance(3 * target, target, keep).item() == pytest.approx(0, abs=1e-6)
    assert cosine_distance(-target, target, keep).item() == pytest.approx(4, abs=1e-6)
    half = target.clone()
    half[1] *= -1
    assert cosine_distance(half, target, keep).item() == pytest.approx(2, abs=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cosine_distance(half, target + 0.1, keep)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, cosine_distance(half, target + 0.1, keep))


def test_each_encoder_sees_its_own_share() -> None:
    model = model_of()
    patches, split = parts(model, some_batch(model, 4, LENGTHS))
    tokens = patches.pixels.shape[1]
    hidden = split.hidden.dense(tokens).unsqueeze(-1)
    targets = model.targets(patches, split.hidden)
    assert not targets.requires_grad
    shown = patches._replace(pixels=torch.where(hidden, patches.pixels, 9.0))
    assert torch.equal(model.targets(shown, split.hidden), targets)
    pixels = patches.pixels.clone().requires_grad_()
    terms = model.terms(patches._replace(pixels=pixels), split, targets)
    model.total(terms).backward()
    seen = split.visible.dense(tokens) & patches.valid
    assert torch.equal(pixels.grad.abs().sum(-1) > 0, seen)


def test_the_target_encoder_learns_nothing_and_follows() -> None:
    model = model_of().train()
    before = [p.clone() for p in model.teacher.parameters()]
    loss, metrics = model.loss(some_batch(model, 3))
    loss.backward()
    assert set(metrics) == {"distance", "target_spread", "prediction_spread"}
    assert all(p.grad is None for p in model.teacher.parameters())
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learnt)
    model.end_step(9, 10)
    pairs = zip(before, model.teacher.parameters(), model.encoder.parameters(), strict=True)
    for old, now, student in pairs:
        torch.testing.assert_close(now, 0.99 * old + 0.01 * student, atol=1e-6, rtol=0)


@pytest.mark.parametrize("masking", ["random", "inverse", "centred"])
def test_padding_changes_nothing(masking: str) -> None:
    assert_padding_changes_nothing(model_of(masking=masking), LENGTHS, {"distance"})


def test_clips_of_one_token() -> None:
    torch.manual_seed(0)
    model = M2d(AstEncoder(frames_encoder()), M2dConfig(), SAMPLES)
    batch = some_batch(model, 2, [400, 500])
    assert model.cut(batch).pixels.shape[1] == 1
    loss, _ = model.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert_padding_changes_nothing(model.eval(), [SAMPLES, 400, 500], {"distance"})


def test_a_teacher_that_is_no_number_ends_the_run() -> None:
    model = model_of()
    with torch.no_grad():
        model.teacher.model.patch_embed.proj.weight[0] = torch.nan
    with pytest.raises(UserError, match=r"teacher.* not finite"):
        model.loss(some_batch(model, 2))


def test_validation_tells_the_spreads_and_the_rank() -> None:
    model = model_of(keep="teacher")
    assert model.kept() is model.teacher.model
    found = {name: float(s / c) for name, (s, c) in model.evaluate(some_batch(model, 4)).items()}
    assert found.keys() == {"loss", "distance", "target_spread", "prediction_spread", "rank"}
    assert 0.2 < found["target_spread"] < 1
    assert 0 < found["prediction_spread"] < 1
    assert 1 <= found["rank"] <= 4


def test_it_learns_fades() -> None:
    assert_it_learns(model_of(momentum=SLOW).train(), 0.6)


def test_resumed_is_the_same(tmp_path: Path) -> None:
    assert_resumed_is_the_same(lambda: model_of().train(), tmp_path)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_bad_options_are_refused(ratio: float) -> None:
    with pytest.raises(UserError, match="mask_ratio"):
        M2dConfig(mask_ratio=ratio)
