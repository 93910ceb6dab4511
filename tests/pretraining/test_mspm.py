"""Masked spectrogram patch modelling: the authors' numbers, the formulas, padding, learning."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixture_rules import close, spectrograms
from tests.published_files import pretrained_ssast
from torch import Tensor

from sonoformer.data.batch import Batch
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.errors import UserError
from sonoformer.nn.masks import Mask
from sonoformer.pretraining import OBJECTIVES
from sonoformer.pretraining.mspm import (
    Mspm,
    MspmConfig,
    generative_mse,
    info_nce,
)
from sonoformer.pretraining.starting import starting_point

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ssast"
SAMPLES = 16400  # give 101 frames: 6 columns of 16 frames
SMALL = ast_config("micro", depth=2)


# The authors' numbers -----------------------------------------------------------------------------


def authors_model(file: Path, config: MspmConfig) -> tuple[Mspm, dict[str, str]]:
    """The model in the authors' file, and their name of each of our parameters."""
    encoder, stored, _ = starting_point(file)
    model = Mspm(encoder, config, samples=164080).eval()
    missing, unknown = model.load_state_dict(stored, strict=False)
    assert not unknown
    assert all(name.startswith("encoder.") for name in missing)
    theirs = {"encoder": "v", "classify": "cpredlayer", "reconstruct": "gpredlayer"}
    names = {"mask_token": "mask_embed"}
    for name, _ in model.named_parameters():
        part, _, rest = name.partition(".")
        names.setdefault(name, f"{theirs.get(part)}.{rest}")
    return model, names


@pytest.mark.parametrize(
    ("tokens", "count", "mode"),
    [
        ("patch", 400, "wide"),
        ("patch", 100, "std02"),
        ("frame", 400, "wide"),
        pytest.param("patch", 400, "std02", marks=pytest.mark.slow),
        pytest.param("patch", 100, "wide", marks=pytest.mark.slow),
        pytest.param("frame", 400, "std02", marks=pytest.mark.slow),
    ],
)
def test_losses_are_the_authors(tokens: str, count: int, mode: str, tmp_path: Path) -> None:
    stored = np.load(FIXTURES / f"pretrain_{tokens}_tiny_n{count}_{mode}.npz")
    config = dataclasses.replace(MspmConfig.reference(), passes=1)
    file = pretrained_ssast(tmp_path / "ssast.pth", tokens, "tiny", mode)
    model, names = authors_model(file, config)
    patches = model.encoder.patches(spectrograms(f"ssast/pretrain/{tokens}", 1024))
    ids = torch.from_numpy(stored["masks"].astype(np.int64))
    mask = Mask(ids, torch.ones_like(ids, dtype=torch.bool))

    terms = model.terms(patches, [mask])
    close(terms["info_nce"], stored["nce"], "nce")
    close(terms["mse"], stored["mse"], "mse")
    assert terms["accuracy"].item() == pytest.approx(float(stored["acc"]), abs=1e-7)
    assert terms["chance"].item() == pytest.approx(1 / count)

    with torch.no_grad():
        states = model._hidden_states(patches, mask)
        predictions = model.classify(states), model.reconstruct(states)
    for prediction, name in zip(predictions, ("pred_c_first8", "pred_g_first8"), strict=True):
        close(prediction[:, :8], stored[name], "prediction")
    targets = patches.pixels[torch.arange(2).unsqueeze(1), ids]
    scores = predictions[0] @ targets.mT
    assert stored["smallest_margin_sum64"].min() > 1e-5
    assert np.array_equal(scores.argmax(2).numpy(), stored["best_target_of_each_prediction"])
    assert np.array_equal(scores.argmax(1).numpy(), stored["best_prediction_of_each_target"])
    for clip in range(2):
        one = slice(clip, clip + 1)
        parts = predictions[0][one], targets[one], mask.keep[one]
        for direction, name in (("target", ""), ("prediction", "_other_axis")):
            loss, accuracy, _ = info_nce(*parts, direction)
            close(loss, stored[f"nce{name}_per_sample"][clip], "nce")
            # The authors choose by probabilities normalised over predictions, hence two answers.
            plain = stored["best_target_of_each_prediction"][clip] == np.arange(count)
            expected = stored["acc_per_sample"][clip] if direction == "target" else plain.mean()
            assert accuracy.item() == pytest.approx(expected, abs=1e-7)
        mse = generative_mse(predictions[1][one], targets[one], mask.keep[one])
        close(mse, stored["mse_per_sample"][clip], "mse")

    model.total(terms).backward()
    theirs = dict(zip(stored["grad_keys"].tolist(), stored["grad_norms"], strict=True))
    firsts = dict(zip(stored["grad_keys"].tolist(), stored["grad_first4"], strict=True))
    largest = max(theirs.values())
    assert {n: names[n] for n, _ in model.named_parameters()}.keys() == names.keys()
    assert set(names.values()) == set(theirs)
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        norm = gradient.double().norm() / largest
        close(norm, theirs[names[name]] / largest, "gradient of the largest")
        first = gradient.flatten()[:4] / largest
        close(first, firsts[names[name]] / largest, "gradient of the largest")


def test_two_passes_with_one_mask_equal_one_pass() -> None:
    model = Mspm(AstEncoder(SMALL), MspmConfig.reference(), SAMPLES).eval()
    batch = some_batch(model, 2)
    patches = model.encoder.patches(*model.encoder.front(batch.wave, batch.lengths))
    first, second = model.masks(batch.noise, patches)
    assert not torch.equal(first.ids, second.ids)
    two = model.terms(patches, [first, first])
    one = model.terms(patches, [first])
    for name in one:
        assert two[name].item() == pytest.approx(one[name].item(), abs=1e-6)


# The formulas -------------------------------------------------------------------------------------


def literal_info_nce(
    pred: Tensor, target: Tensor, keep: Tensor, direction: str, drop: bool
) -> tuple[Tensor, float, float]:
    """Equation 1, clip by clip and token by token."""
    losses, hits, chances = [], [], []
    for c, x, kept in zip(pred.double(), target.double(), keep, strict=True):
        c, x = c[kept], x[kept]
        n = len(c)
        if n == 0:
            continue
        per_token, right, blind = [], 0, 0.0
        for i in range(n):
            others = [j for j in range(n) if j == i or not (drop and torch.equal(x[i], x[j]))]
            by_prediction = torch.stack([c[i] @ x[j] for j in others])
            by_target = torch.stack([c[j] @ x[i] for j in others])
            parts = {
                "prediction": by_prediction.logsumexp(0) - c[i] @ x[i],
                "target": by_target.logsumexp(0) - c[i] @ x[i],
            }
            parts["both"] = (parts["prediction"] + parts["target"]) / 2
            per_token.append(parts[direction])
            right += others[int(by_prediction.argmax())] == i
            blind += 1 / len(others)
        if direction == "target":
            equal = torch.tensor([[drop and torch.equal(a, b) for a in x] for b in x])
            shut = equal & ~torch.eye(n, dtype=torch.bool)
            table = (x @ c.T).masked_fill(shut, -torch.inf).log_softmax(1)
            right = int((table.argmax(0) == torch.arange(n)).sum())
        losses.append(torch.stack(per_token).mean())
        hits.append(right / n)
        chances.append(blind / n)
    return torch.stack(losses).mean(), float(np.mean(hits)), float(np.mean(chances))


@pytest.mark.parametrize("direction", ["prediction", "target", "both"])
@pytest.mark.parametrize("drop", [True, False])
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), clips=st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_info_nce_is_equation_1(direction: str, drop: bool, seed: int, n: int, clips: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(clips, n, 5, generator=generator)
    target = torch.randn(clips, n, 5, generator=generator)
    copies = torch.rand(clips, n, generator=generator) < 0.3
    target[copies] = target[0, 0].clone()  # digital silence, say
    keep = torch.rand(clips, n, generator=generator) < 0.7
    keep[0, 0] = True
    ours, theirs = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    loss, accuracy, chance = info_nce(ours, target, keep, direction, drop)
    expected, right, blind = literal_info_nce(theirs, target, keep, direction, drop)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert chance.item() == pytest.approx(blind, abs=1e-6)
    if drop or not copies.any():  # equal scores of equal patches may tie either way
        assert accuracy.item() == pytest.approx(right, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, ours)
    (literal,) = torch.autograd.grad(expected, theirs)
    assert (gradient - literal).abs().max() < 1e-5


def test_equal_patches_are_no_wrong_answers() -> None:
    pred = torch.randn(2, 6, 4, requires_grad=True)
    silent = torch.zeros(2, 6, 4)
    keep = torch.ones(2, 6, dtype=torch.bool)
    loss, accuracy, chance = info_nce(pred, silent, keep)
    assert (loss.item(), accuracy.item(), chance.item()) == (0, 1, 1)
    loss.backward()
    assert torch.isfinite(pred.grad).all()
    kept, _, blind = info_nce(pred, silent, keep, drop_duplicates=False)
    assert kept.item() == pytest.approx(math.log(6))
    assert blind.item() == pytest.approx(1 / 6)
    almost = silent.clone()
    almost[0, 3, 2] = 1e-38  # one bit pattern that differs is another patch
    _, _, blind = info_nce(pred, almost, keep)
    assert blind.item() == pytest.approx((5 / 6 * 1 / 2 + 1 / 6 * 1 / 6 + 1) / 2)


def test_scores_too_large_for_half_precision_stay_finite() -> None:
    pred = 3e4 * torch.randn(2, 7, 4)
    target = torch.randn(2, 7, 4)
    keep = torch.ones(2, 7, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(pred, target, keep)[0], generative_mse(pred, target, keep)
    outside = info_nce(pred, target, keep)[0], generative_mse(pred, target, keep)
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
        assert torch.isfinite(a)


def test_generative_mse_counts_kept_tokens_and_each_clip_alike() -> None:
    pred, target = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    keep = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    expected = (
        F.mse_loss(pred[0], target[0]) + F.mse_loss(pred[1][keep[1]], target[1][keep[1]])
    ) / 2
    assert generative_mse(pred, target, keep).item() == pytest.approx(expected.item(), abs=1e-6)


# The learner --------------------------------------------------------------------------------------


def some_batch(model: Mspm, clips: int, lengths: list[int] | None = None, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths or [SAMPLES] * clips)
    wave = 0.1 * torch.randn(clips, SAMPLES, generator=generator)
    wave = wave * (torch.arange(SAMPLES) < counts.unsqueeze(1))
    noise = torch.rand(clips, model.noise, generator=generator)
    return Batch(wave[:, : int(counts.max())], counts, torch.arange(clips), noise=noise)


@pytest.mark.parametrize("tokens", ["patch", "frame"])
def test_padding_changes_nothing(tokens: str) -> None:
    torch.manual_seed(0)
    encoder = AstEncoder(ast_config("micro", tokens, depth=2))
    model = Mspm(encoder, MspmConfig(), SAMPLES).eval()
    lengths = [SAMPLES, 9000, 300, 4800]
    batch = some_batch(model, 4, lengths)
    together = model.evaluate(batch)
    alone: dict[str, float] = {}
    for clip, length in enumerate(lengths):
        one = slice(clip, clip + 1)
        part = Batch(
            batch.wave[one, :length], batch.lengths[one], batch.index[one], noise=batch.noise[one]
        )
        for name, (value, count) in model.evaluate(part).items():
            assert count.item() == 1
            alone[name] = alone.get(name, 0) + value.item()
    for name, (value, count) in together.items():
        assert count.item() == 4
        assert value.item() == pytest.approx(alone[name], abs=2e-4 if name == "loss" else 2e-5)


@pytest.mark.parametrize("loss", ["joint", "discriminative", "generative"])
def test_every_weight_learns_and_masks_follow_the_noise(loss: str) -> None:
    torch.manual_seed(0)
    model = Mspm(AstEncoder(SMALL), MspmConfig(loss=loss), SAMPLES)
    batch = some_batch(model, 3)
    value, metrics = model.loss(batch)
    value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    expected = {"info_nce", "accuracy", "chance"} if loss != "generative" else set()
    expected |= {"mse"} if loss != "discriminative" else set()
    assert set(metrics) == expected
    assert not any(m.requires_grad for m in metrics.values())
    again, _ = model.loss(batch)
    assert again.item() == value.item()
    batch.noise = batch.noise.roll(1, 0)
    other, _ = model.loss(batch)
    assert other.item() != value.item()


def test_hidden_patches_are_not_seen() -> None:
    model = Mspm(AstEncoder(SMALL), MspmConfig(), SAMPLES).eval()
    batch = some_batch(model, 2)
    spec, frames = model.encoder.front(batch.wave, batch.lengths)
    patches = model.encoder.patches(spec, frames)
    (mask,) = model.masks(batch.noise, patches)
    hidden = mask.dense(patches.pixels.shape[1]).unsqueeze(-1)
    changed = patches._replace(pixels=torch.where(hidden, 9.0, patches.pixels))
    with torch.no_grad():
        before, after = (model._hidden_states(p, mask) for p in (patches, changed))
        assert torch.equal(before, after)
        shown = patches._replace(pixels=torch.where(hidden, patches.pixels, 9.0))
        assert not torch.equal(before, model._hidden_states(shown, mask))


def test_noise_that_does_not_fit_is_named() -> None:
    model = Mspm(AstEncoder(SMALL), MspmConfig(), SAMPLES)
    batch = some_batch(model, 1)
    batch.noise = batch.noise[:, :-1]
    with pytest.raises(ValueError, match=f"{model.noise} random numbers"):
        model.loss(batch)


def test_laws_of_masking() -> None:
    def law(tokens: str, masking: str) -> str:
        encoder = AstEncoder(ast_config("micro", tokens, depth=1))
        return Mspm(encoder, MspmConfig(masking=masking), SAMPLES).law

    assert [law("patch", m) for m in ("auto", "reference", "random")] == [
        "centred",
        "reference",
        "random",
    ]
    assert [law("frame", m) for m in ("auto", "reference", "centred")] == [
        "random",
        "random",
        "centred",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"weight": 0.0}, "weight"),
        ({"passes": 2, "loss": "generative"}, "passes"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MspmConfig(**options)


def test_it_learns_fades() -> None:
    """Noise that grows or fades steadily: what is hidden follows from what is shown."""
    torch.manual_seed(0)
    config, learner = OBJECTIVES["mspm"]
    encoder = AstEncoder(ast_config("micro", dim=64, depth=1))
    model = learner(encoder, config(head="linear"), SAMPLES)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.99))
    place = torch.linspace(-0.5, 0.5, SAMPLES)

    def fades(seed: int, clips: int = 16) -> Batch:
        batch = some_batch(model, clips, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        level, slope = torch.rand(2, clips, 1, generator=generator)
        batch.wave *= torch.exp(4 * level - 4 + (10 * slope - 5) * place)
        return batch

    def score() -> dict[str, float]:
        return {n: float(s / c) for n, (s, c) in model.evaluate(fades(10**6, 64)).items()}

    before = score()
    for step in range(60):
        optimiser.zero_grad()
        model.loss(fades(step))[0].backward()
        optimiser.step()
    after = score()
    assert after["accuracy"] > 1.8 * after["chance"]
    assert after["mse"] < 0.4 * before["mse"]
    assert after["info_nce"] < before["info_nce"] - 0.3
