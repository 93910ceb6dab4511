"""Latent bootstrap with many masks: the formulas, the teacher, padding, learning, resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
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
from sonoformer.nn.decoders import ConvDecoder, DecoderConfig
from sonoformer.nn.masks import Split, draw_split
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.nn.tokens import Patches
from sonoformer.pretraining.eat import Eat, EatConfig
from sonoformer.pretraining.objective import columns
from sonoformer.training.fitting import compiled_encoders

QUICK = MomentumConfig(0.9, 0.99, "linear")
SLOW = MomentumConfig(0.99, 0.999, "linear")
TERMS = {"patch", "utterance"}


def model_of(**options: object) -> Eat:
    torch.manual_seed(0)
    options = {"masks": 3, "decoder": DecoderConfig("conv", depth=2), "momentum": QUICK} | options
    return Eat(AstEncoder(SMALL), EatConfig(**options), SAMPLES).eval()  # type: ignore[arg-type]


def perturbed(model: Eat) -> Eat:
    """Student and teacher no longer the same."""
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return model


def literal_targets(model: Eat, pixels: Tensor, ids: list[int], grid: tuple[int, int]) -> Tensor:
    """What the teacher makes of one clip's real tokens, `(tokens, dim)`."""
    teacher = model.teacher.model
    positions = teacher.position_table(grid)
    x = torch.stack([teacher.patch_embed(pixels[i]) + positions[i] for i in ids]).unsqueeze(0)
    x = torch.cat([teacher._prefix(), x], 1)
    layers = []
    for block in teacher.blocks:
        x = block(x)
        y = x[0, teacher.config.prefix :].double()
        layers.append((y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt())
    mean = sum(layers) / len(layers)
    rows = [(y - y.mean()) / (y.var(unbiased=False) + 1e-5).sqrt() for y in mean]
    return torch.stack(rows).detach()


def literal_decoder(
    decoder: ConvDecoder, seen: dict[int, Tensor], ids: list[int], grid: tuple[int, int]
) -> dict[int, Tensor]:
    """One view; cells without a real token are zero before each convolution."""
    x = torch.zeros(grid[0] * grid[1], decoder.mask_token.shape[0])
    rows = [seen.get(i, decoder.mask_token) if i in ids else x[i] for i in range(len(x))]
    x = torch.stack(rows)
    real = torch.tensor([i in ids for i in range(len(x))]).unsqueeze(1)
    for layer in decoder.layers:
        x = torch.where(real, x, 0.0)
        y = layer(x.T.reshape(1, -1, *grid))[0].flatten(1).T
        x = x + F.gelu(F.layer_norm(y, y.shape[-1:]))
    return {i: decoder.out(x[i]) for i in ids}


def literal(model: Eat, patches: Patches, views: Split) -> tuple[Tensor, Tensor]:
    """The two losses, clip by clip, view by view, token by token."""
    encoder, grid, masks = model.encoder, patches.grid, model.config.masks
    positions = encoder.position_table(grid)
    patch_losses, utterance_losses = [], []
    for clip, pixels in enumerate(patches.pixels):
        ids = patches.valid[clip].nonzero().flatten().tolist()
        targets = dict(zip(ids, literal_targets(model, pixels, ids, grid), strict=True))
        whole = sum(targets.values()) / len(targets)
        for view in range(clip * masks, (clip + 1) * masks):
            shown = views.visible.ids[view][views.visible.keep[view]].tolist()
            hidden = views.hidden.ids[view][views.hidden.keep[view]].tolist()
            assert sorted(shown + hidden) == ids
            rows = [encoder.patch_embed(pixels[i]) + positions[i] for i in shown]
            x = torch.stack(rows) if rows else torch.empty(0, encoder.dim)
            tokens = encoder.encode(x.unsqueeze(0), None, grid)
            outputs = tokens.x[0, tokens.prefix :]
            decoded = literal_decoder(
                model.decoder, dict(zip(shown, outputs, strict=True)), ids, grid
            )
            errors = [((decoded[i].double() - targets[i]) ** 2).mean() for i in hidden]
            patch_losses.append(torch.stack(errors).mean())
            heard = tokens.x[0, : tokens.prefix].mean(0).double()
            utterance_losses.append(((heard - whole) ** 2).mean())
    return torch.stack(patch_losses).mean(), torch.stack(utterance_losses).mean()


@pytest.mark.parametrize("lengths", [[SAMPLES] * 2, LENGTHS])
def test_the_losses_are_the_formulas(lengths: list[int]) -> None:
    model = perturbed(model_of())
    batch = some_batch(model, len(lengths), lengths)
    patches = model.cut(batch)
    views = model.views(model.random(batch), patches)
    terms = model.terms(patches, views, model.targets(patches))
    patch, utterance = literal(model, patches, views)
    assert terms["patch"].item() == pytest.approx(patch.item(), abs=5e-6)
    assert terms["utterance"].item() == pytest.approx(utterance.item(), abs=5e-6)
    assert model.total(terms).item() == pytest.approx((patch + utterance).item(), abs=1e-5)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(model.total(terms), weights)
    for a, b in zip(ours, torch.autograd.grad(patch + utterance, weights), strict=True):
        assert (a - b).abs().max() < 5e-6 + 1e-4 * b.abs().max()


def test_views_of_a_clip_are_those_of_its_noise() -> None:
    model = model_of()
    batch = some_batch(model, 2)
    patches = model.cut(batch)
    views = model.views(batch.noise, patches)
    for clip in range(2):
        for number, noise in enumerate(batch.noise[clip].chunk(3)):
            one = draw_split(noise.unsqueeze(0), columns(patches)[:1], patches.grid, 0.8, "inverse")
            assert torch.equal(one.hidden.ids[0], views.hidden.ids[3 * clip + number])
    assert not torch.equal(views.hidden.ids[0], views.hidden.ids[1])


def test_only_visible_patches_are_seen_and_only_hidden_targets_count() -> None:
    model = model_of(masks=1, weight=0.0)
    batch = some_batch(model, 4, LENGTHS)
    patches = model.cut(batch)
    views = model.views(model.random(batch), patches)
    pixels = patches.pixels.clone().requires_grad_()
    targets = model.targets(patches)
    terms = model.terms(patches._replace(pixels=pixels), views, targets)
    assert set(terms) == {"patch", "target_spread", "prediction_spread"}
    model.total(terms).backward()
    seen = views.visible.dense(pixels.shape[1]) & patches.valid
    assert torch.equal(pixels.grad.abs().sum(-1) > 0, seen)
    other = torch.where(seen.unsqueeze(-1), 7.0, targets)
    assert model.terms(patches, views, other)["patch"].item() == terms["patch"].item()


def test_the_teacher_hears_all_learns_nothing_and_follows() -> None:
    model = perturbed(model_of()).train()
    assert not model.teacher.model.training
    before = [p.clone() for p in model.teacher.parameters()]
    loss, metrics = model.loss(some_batch(model, 3))
    loss.backward()
    assert set(metrics) == {*TERMS, "target_spread", "prediction_spread"}
    assert all(p.grad is None for p in model.teacher.parameters())
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learnt)
    grouped = {id(p) for group in model.parameter_groups(1e-3) for p in group["params"]}
    assert grouped == {id(p) for p in learnt}
    model.end_step(0, 10)
    pairs = zip(before, model.teacher.parameters(), model.encoder.parameters(), strict=True)
    for old, now, student in pairs:
        torch.testing.assert_close(now, 0.9 * old + 0.1 * student, atol=1e-6, rtol=0)


@pytest.mark.parametrize("masking", ["inverse", "random", "centred"])
@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_padding_changes_nothing(masking: str, kind: str) -> None:
    model = perturbed(model_of(masking=masking, decoder=DecoderConfig(kind=kind)))
    assert_padding_changes_nothing(model, LENGTHS, TERMS)


def test_clips_of_one_token() -> None:
    torch.manual_seed(0)
    config = EatConfig(masks=2, decoder=DecoderConfig("conv", depth=2))
    model = Eat(AstEncoder(frames_encoder()), config, SAMPLES)
    batch = some_batch(model, 2, [400, 500])
    assert model.cut(batch).pixels.shape[1] == 1
    loss, _ = model.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert_padding_changes_nothing(model.eval(), [SAMPLES, 400, 500], TERMS)


def test_a_teacher_that_is_no_number_ends_the_run() -> None:
    model = model_of()
    with torch.no_grad():
        model.teacher.model.blocks[0].mlp.fc1.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"teacher.* not finite"):
        model.loss(some_batch(model, 2))


def keep_adding(model: Eat, spread: Tensor) -> None:
    for _ in range(400):
        model.watch.add(spread)


def test_a_teacher_that_collapsed_ends_the_run_and_some_silence_does_not() -> None:
    model = model_of()
    batch = some_batch(model, 2)
    assert model.terms_of(batch)["target_spread"] > 0.3
    with torch.no_grad():
        model.teacher.model.patch_embed.proj.weight.zero_()
        model.teacher.model.pos_embed.zero_()
        spread = model.terms_of(batch)["target_spread"]
    assert spread < 0.05
    for _ in range(20):
        model.loss(batch)
    with pytest.raises(UserError, match="collapsed"):
        keep_adding(model, spread)


def test_either_encoder_can_be_kept() -> None:
    student, taught = model_of(), model_of(keep="teacher")
    assert student.kept() is student.encoder
    assert taught.kept() is taught.teacher.model
    own = {"watch.average"} | {f"decoder.{name}" for name in taught.decoder.state_dict()}
    assert taught.own_state().keys() == own


def test_the_teacher_is_compiled_with_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        def compiled(*words: Any, **options: Any) -> Any:
            calls.append(id(function.__self__))  # type: ignore[attr-defined]
            return function(*words, **options)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)
    model = model_of()
    with compiled_encoders(model, True):
        model.loss(some_batch(model, 2))
    assert set(calls) == {id(model.encoder), id(model.taught_by)}
    assert "encode" not in vars(model.encoder) | vars(model.taught_by)


def test_it_learns_fades() -> None:
    assert_it_learns(model_of(masks=2, momentum=SLOW).train(), 0.8)


def test_resumed_is_the_same(tmp_path: Path) -> None:
    assert_resumed_is_the_same(lambda: model_of(masks=2).train(), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"masks": 0}, "masks"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EatConfig(**options)
