"""ASiT and its variant: the formulas, crossed crops, what is corrupted, teacher, learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pretraining.objectives import (
    LENGTHS,
    SAMPLES,
    SMALL,
    Clips,
    assert_resumed_is_the_same,
    fades,
    frames_encoder,
    part,
    some_batch,
)
from torch import Tensor

from sonoformer.data.dataset import ClipDataset
from sonoformer.data.order import Order
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.nn.corruption import AlienConfig, CorruptionConfig
from sonoformer.nn.masks import masked_count
from sonoformer.nn.prototypes import HeadConfig, Logits, TemperatureConfig
from sonoformer.nn.teacher import MomentumConfig
from sonoformer.pretraining.asit import Asit, AsitConfig, asit_loss, choices, take_views
from sonoformer.pretraining.asit_drop import AsitDrop, AsitDropConfig
from sonoformer.pretraining.objective import columns
from sonoformer.run import Run
from sonoformer.training import TrainConfig, TrainData, fit
from sonoformer.training.config import OptimiserConfig, ScheduleConfig
from sonoformer.training.plan import Plan
from sonoformer.training.schedules import Schedule, decay_factor

HEAD = HeadConfig(hidden=32, bottleneck=16, clip=24, patch=12)
KINDS = {"asit": (Asit, AsitConfig), "asit-drop": (AsitDrop, AsitDropConfig)}
both = pytest.mark.parametrize("name", list(KINDS))


def make(name: str = "asit", shape: Any = SMALL, seed: int = 0, **options: Any) -> Asit:
    kind, config = KINDS[name]
    torch.manual_seed(seed)
    options = {"view": 0.6, "head": HEAD} | options
    return kind(AstEncoder(shape), config(**options), SAMPLES)


# The formulas -------------------------------------------------------------------------------------


def literal(
    s: list[Logits], t: list[Logits], centre: Logits, tau_s: float, tau_t: float,
    valid: Tensor, r: Tensor, c: Tensor, m: Tensor,
) -> dict[str, float]:  # fmt: skip
    """Crop by crop, patch by patch, pixel by pixel, in float64."""

    def p(logits: Tensor, middle: Tensor) -> list[float]:
        e = [math.exp(float(x - y) / tau_t) for x, y in zip(logits, middle, strict=True)]
        return [x / sum(e) for x in e]

    def q(logits: Tensor) -> list[float]:
        e = [math.exp(float(x) / tau_s) for x in logits]
        return [math.log(x / sum(e)) for x in e]

    def cross(target: list[float], said: list[float]) -> float:
        return -sum(a * b for a, b in zip(target, said, strict=True))

    clips, tokens = len(s[0].clip), s[0].patch.shape[1]
    first = [cross(p(t[0].clip[b], centre.clip), q(s[1].clip[b])) for b in range(clips)]
    second = [cross(p(t[1].clip[b], centre.clip), q(s[0].clip[b])) for b in range(clips)]
    local, errors = [], []
    for v in range(2):
        for b in range(clips):
            row = v * clips + b
            for i in range(tokens):
                if valid[row, i]:
                    own = p(t[v].patch[b, i], centre.patch), q(s[v].patch[b, i])
                    local.append(cross(*own))
                pairs = zip(r[row, i], c[row, i], m[row, i], strict=True)
                errors += [abs(float(x) - float(y)) for x, y, hit in pairs if hit]
    return {
        "clip": (sum(first) / clips + sum(second) / clips) / 2,
        "patch": sum(local) / len(local),
        "pixel": sum(errors) / len(errors),
    }


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_the_formulas(seed: int) -> None:
    torch.manual_seed(seed)
    clips, tokens = 3, 4

    def logits() -> Logits:
        return Logits(torch.randn(clips, 5), torch.randn(clips, tokens, 6))

    s, t = [logits(), logits()], [logits(), logits()]
    centre = Logits(torch.randn(5), torch.randn(6))
    valid = torch.rand(2 * clips, tokens) < 0.7
    valid[:, 0] = True
    r, c = torch.randn(2, 2 * clips, tokens, 7)
    m = torch.rand(2 * clips, tokens, 7) < 0.5
    said, taught = (Logits(*(torch.cat(x) for x in zip(*y, strict=True))) for y in (s, t))
    targets = Logits(*(choices(x, y, 0.4) for x, y in zip(taught, centre, strict=True)))
    found = asit_loss(said, targets, valid, r, c, m, 0.3)
    expected = literal(s, t, centre, 0.3, 0.4, valid, r, c, m)
    assert {n: x.item() for n, x in found.items()} == pytest.approx(expected, rel=1e-5)
    # The clip's targets are those of the other crop, a patch's are its own: swapping the crops of
    # the teacher alone changes both, of both networks neither.
    swapped = Logits(*(x.roll(clips, 0) for x in targets))
    other = asit_loss(said, swapped, valid, r, c, m, 0.3)
    assert other["clip"].item() != pytest.approx(expected["clip"], rel=1e-3)
    own = -(targets.clip * (said.clip / 0.3).log_softmax(-1)).sum(-1).mean()
    assert other["clip"].item() == pytest.approx(own.item(), rel=1e-5)
    all_swapped = [x.roll(clips, 0) for x in (valid, r, c, m)]
    same = asit_loss(Logits(*(x.roll(clips, 0) for x in said)), swapped, *all_swapped, 0.3)
    assert {n: x.item() for n, x in same.items()} == pytest.approx(expected, rel=1e-5)


def test_what_is_clean_or_padding_gets_no_gradient() -> None:
    torch.manual_seed(0)
    valid = torch.tensor([[True, True, False]]).expand(4, -1)
    said = Logits(torch.randn(4, 5), torch.randn(4, 3, 6, requires_grad=True))
    targets = Logits(torch.rand(4, 5).softmax(-1), torch.rand(4, 3, 6).softmax(-1))
    rebuilt, clean = torch.randn(4, 3, 7, requires_grad=True), torch.randn(4, 3, 7)
    mask = (torch.rand(4, 3, 7) < 0.5) & valid.unsqueeze(-1)
    sum(asit_loss(said, targets, valid, rebuilt, clean, mask, 0.1).values()).backward()
    assert torch.equal(rebuilt.grad != 0, mask)
    assert torch.equal((said.patch.grad != 0).any(-1), valid)


def test_half_precision_changes_nothing_in_the_losses() -> None:
    torch.manual_seed(0)
    said = Logits(10 * torch.randn(4, 5), 10 * torch.randn(4, 3, 6))
    targets = Logits(torch.rand(4, 5).softmax(-1), torch.rand(4, 3, 6).softmax(-1))
    rest = torch.ones(4, 3) > 0, torch.randn(4, 3, 7), torch.randn(4, 3, 7), torch.rand(4, 3, 7) > 0
    plain = asit_loss(said, targets, *rest, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = asit_loss(said, targets, *rest, 0.1)
    assert all(torch.equal(plain[n], inside[n]) for n in plain)


def test_a_student_that_hears_all_loses_the_entropy() -> None:
    """Teacher = student, nothing corrupted, equal temperatures, centre 0."""
    model = make(
        corruption=CorruptionConfig(area=(0.0, 0.0), alien=AlienConfig(area=0.0)),
        temperature=TemperatureConfig(student=0.1, start=0.1, end=0.1),
    ).eval()
    with torch.no_grad():
        terms = model.terms_of(some_batch(model, 4))
    assert terms["patch"].item() == pytest.approx(terms["patch_entropy"].item(), rel=1e-5)
    assert terms["agreement"].item() == 1
    assert terms["pixel"].item() == 0


# Crops and what is heard of them ------------------------------------------------------------------


def test_views_are_two_crops_of_real_sound() -> None:
    lengths = torch.tensor([100, 40, 7, 60])
    frames = torch.arange(100.0).view(1, -1, 1)
    spec = (1000 * torch.arange(4).view(-1, 1, 1) + frames).expand(-1, -1, 3)
    noise = torch.rand(8, generator=torch.Generator().manual_seed(0))
    views = take_views(spec, lengths, noise, 50)
    assert views.spec.shape == (8, 50, 3)
    assert views.frames.tolist() == [50, 40, 7, 50] * 2
    for row, (start, crop) in enumerate(zip(views.starts.tolist(), views.spec, strict=True)):
        clip = row % 4
        assert torch.equal(crop[:, 0], 1000 * clip + start + torch.arange(50.0))
        assert start == int(noise[row] * (max(0, int(lengths[clip]) - 50) + 1))
    assert views.starts[0] != views.starts[4]
    clips = 255
    every = torch.arange(2 * clips) / (2 * clips)
    views = take_views(spec[:1].expand(clips, -1, -1), lengths[:1].expand(clips), every, 50)
    assert views.starts.unique().tolist() == list(range(51))


@pytest.mark.parametrize("align", [1, 16])
def test_asit_hides_pixels_of_real_tokens(align: int) -> None:
    model = make(corruption=CorruptionConfig(align=align)).eval()
    batch = some_batch(model, 4, LENGTHS)
    views, rest = model.views(*model.encoder.front(batch.wave, batch.lengths), batch.noise)
    clean = model.encoder.patches(views.spec, views.frames)
    heard = model.heard(views, clean, rest)
    assert heard.mask.any()
    assert not heard.mask[~clean.valid].any()
    assert torch.equal(heard.pixels[~heard.mask], clean.pixels[~heard.mask])
    zero = heard.pixels == 0
    aliens = (heard.mask & ~zero).flatten(1).any(1)
    assert 0 < aliens.sum() < len(aliens)
    if align == 16:
        share = heard.mask.float().mean(-1)[views.frames >= 16]
        assert set(share.unique().tolist()) == {0.0, 1.0}


def test_dropped_tokens_are_as_many_as_asked_for_and_not_seen() -> None:
    model = make("asit-drop").eval()
    batch = some_batch(model, 4, LENGTHS)
    views, rest = model.views(*model.encoder.front(batch.wave, batch.lengths), batch.noise)
    clean = model.encoder.patches(views.spec, views.frames)
    heard = model.heard(views, clean, rest)
    hidden = heard.extra.hidden.dense(clean.valid.shape[1])
    counts = [masked_count(int(n) * clean.grid[0], 0.6) for n in columns(clean)]
    assert hidden.sum(1).tolist() == counts
    assert not (hidden & ~clean.valid).any()
    assert heard.mask[hidden].all()
    seen = clean.valid & ~hidden
    alien = (heard.pixels != clean.pixels).any(-1) & seen
    assert alien.any()
    assert torch.equal(heard.mask.any(-1) & seen, alien)
    changed = torch.where(hidden.unsqueeze(-1), 9.0, heard.pixels)
    with torch.no_grad():
        before = model.student(clean, heard, views)
        after = model.student(clean, heard._replace(pixels=changed), views)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_dropped_tokens_lie_in_blocks() -> None:
    """Neighbours of hidden tokens are hidden more often than by chance."""
    model = make("asit-drop", view=1.0).eval()
    batch = some_batch(model, 64)
    views, rest = model.views(*model.encoder.front(batch.wave, batch.lengths), batch.noise)
    clean = model.encoder.patches(views.spec, views.frames)
    hidden = model.heard(views, clean, rest).extra.hidden.dense(clean.valid.shape[1])
    hidden = hidden.unflatten(1, clean.grid).float()
    beside = (hidden[:, :, 1:] * hidden[:, :, :-1]).mean() / hidden.mean()
    assert beside > hidden.mean() + 0.04
    assert hidden.mean((0, 2)).min() > 0.4


@both
def test_places_are_those_of_the_clip_or_the_crop(name: str) -> None:
    model = make(name, view=0.48).eval()
    batch = some_batch(model, 2)
    views, _ = model.views(*model.encoder.front(batch.wave, batch.lengths), batch.noise)
    clean = model.encoder.patches(views.spec, views.frames)
    where, ids = model.places(clean.grid, views)
    assert where == model.grid
    for row, start in enumerate(views.starts.tolist()):
        own = torch.arange(clean.grid[1]) + start // 16
        assert torch.equal(ids[row].view(clean.grid)[3], 3 * model.grid[1] + own)
    assert make(name, places="crop").places(clean.grid, views) == (clean.grid, None)
    late = views._replace(starts=torch.full((4,), 101 - 48))
    assert model.places(clean.grid, late)[1].max() == model.grid[0] * model.grid[1] - 1


@both
def test_padding_changes_nothing(name: str) -> None:
    """Without aliens, which come from the other clips: those of the batch are the clips' own."""
    quiet = AlienConfig(probability=0.0)
    options = (
        {"alien": quiet} if name == "asit-drop" else {"corruption": CorruptionConfig(alien=quiet)}
    )
    model = make(name, **options).eval()
    batch = some_batch(model, 4, LENGTHS)

    def said(batch: Any) -> tuple[Logits, Tensor, Tensor]:
        views, rest = model.views(*model.encoder.front(batch.wave, batch.lengths), batch.noise)
        clean = model.encoder.patches(views.spec, views.frames)
        clip, patches = model.student(clean, model.heard(views, clean, rest), views)
        return model.head(clip, patches), clean.valid, columns(clean)

    with torch.no_grad():
        together, valid, real = said(batch)
        for row in range(4):
            alone, own, count = said(part(batch, row))
            for view in range(2):
                at = 4 * view + row
                assert real[at] == count[view]
                assert torch.allclose(alone.clip[view], together.clip[at], atol=1e-5)
                theirs, ours = together.patch[at][valid[at]], alone.patch[view][own[view]]
                assert torch.allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("lengths", [[300, 300], [SAMPLES, 300], [300]])
@pytest.mark.parametrize("tokens", ["patch", "frame"])
@both
def test_short_and_lonely_clips_are_borne(name: str, tokens: str, lengths: list[int]) -> None:
    model = make(name, shape=SMALL if tokens == "patch" else frames_encoder())
    loss, terms = model.loss(some_batch(model, len(lengths), lengths))
    loss.backward()
    assert all(torch.isfinite(x) for x in terms.values())
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(x).all() for x in found)


# Teacher, centres, schedules ----------------------------------------------------------------------


@both
def test_every_weight_of_the_student_learns_and_none_of_the_teacher(name: str) -> None:
    model = make(name)
    loss, metrics = model.loss(some_batch(model, 3))
    loss.backward()
    for weight, parameter in model.named_parameters():
        if weight.startswith("teacher."):
            assert parameter.grad is None
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0, weight
    watched = {"clip_entropy_of_mean", "clip_entropy", "patch_entropy_of_mean", "patch_entropy"}
    watched |= {"clip_centre", "patch_centre", "agreement", "target_spread"}
    assert set(metrics) == {"clip", "patch", "pixel"} | watched
    assert not any(x.requires_grad for x in metrics.values())
    expected = metrics["clip"] + metrics["patch"] + 2 * metrics["pixel"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_schedules_are_the_closed_forms() -> None:
    total, momentum = 1001, MomentumConfig(0.996, 1.0, "cosine")
    assert AsitConfig().momentum == momentum
    assert [momentum.at(s, total) for s in (0, 500, 1000)] == pytest.approx([0.996, 0.998, 1.0])
    decay = OptimiserConfig(weight_decay=0.04, weight_decay_end=0.4)
    found = [0.04 * decay_factor(decay, s, total) for s in (0, 500, 1000)]
    assert found == pytest.approx([0.04, 0.22, 0.4])
    config = TrainConfig(
        steps=total, schedule=ScheduleConfig(name="cosine", warmup_steps=100, floor=0.004)
    )
    rate = Schedule(config.schedule, Plan.of(config, 100))
    assert [rate.factor(s) for s in (0, 99, total)] == pytest.approx([0.01, 1.0, 0.004])
    model = make()
    for step, tau in ((0, 0.04), (150, 0.055), (300, 0.07), (999, 0.07)):
        model.start_step(step, 1000)
        assert model.tau.item() == pytest.approx(tau)


def test_teacher_and_centres_follow_after_a_step() -> None:
    model = make()
    batch = some_batch(model, 4)
    before = {n: p.clone() for n, p in model.teacher.named_parameters()}
    model.loss(batch)[0].backward()
    assert not model.patch_centre.value.any()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    model.end_step(0, 10)
    student = dict(model._student().named_parameters())
    for name, parameter in model.teacher.named_parameters():
        new = student[name.removeprefix("model.")]
        assert torch.allclose(parameter, 0.996 * before[name] + 0.004 * new, atol=1e-7)
    views, _ = model.views(*model.encoder.front(batch.wave, batch.lengths), batch.noise)
    clean = model.encoder.patches(views.spec, views.frames)
    fresh = make()  # the teacher as it was
    with torch.no_grad():
        tokens = fresh.listen(fresh.taught_by, clean, views)
        taught = fresh.taught_head(tokens.pool("cls"), tokens.x[:, tokens.prefix :])
    for centre, logits in ((model.clip_centre, taught.clip), (model.patch_centre, taught.patch)):
        assert torch.allclose(centre.value, 0.1 * logits.flatten(0, -2).mean(0), atol=1e-6)
    value = model.patch_centre.value.clone()
    model.eval().evaluate(batch)
    model.end_step(1, 10)
    assert torch.allclose(model.patch_centre.value, 0.9 * value)  # validation was not observed


def test_the_teacher_begins_as_a_copy_of_loaded_weights() -> None:
    model, other = make(), make(seed=1)
    own = other.own_state()
    assert not [n for n in own if n.startswith(("teacher.", "encoder."))]
    model.load_state_dict({**model.state_dict(), **own})
    model.begin()
    for ours, theirs in zip(model.taught_head.parameters(), other.head.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(model.taught_by.parameters(), model.encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@both
def test_either_encoder_can_be_kept(name: str) -> None:
    model = make(name, keep="teacher")
    assert model.kept() is model.teacher.model["encoder"]
    student = make(name, keep="student")
    assert student.kept() is student.encoder


# Runs ---------------------------------------------------------------------------------------------


def test_a_torn_run_ends_as_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoformer.training.report.draw", lambda rows, path: None)
    assert_resumed_is_the_same(lambda: make(view=0.16), tmp_path)


def test_a_teacher_that_is_no_number_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonoformer.training.report.draw", lambda rows, path: None)
    model = make(view=0.16)
    with torch.no_grad():
        next(model.teacher.parameters()).fill_(torch.nan)
    config = TrainConfig(steps=3, batch_size=2, workers=0, precision="fp32")
    clips = ClipDataset(Clips(), crop=4000, seed=1, train=True, noise=model.noise)
    data = TrainData(clips, Order(len(clips), batch_size=2, seed=1))
    with Run.start(tmp_path / "run", "pretrain", config, 1) as run:
        run.echo = None
        with pytest.raises(UserError, match="not finite numbers; the last good checkpoint"):
            fit(model, data, None, config, run, seed=1, device="cpu")
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@both
def test_it_learns_fades(name: str) -> None:
    """Noise that grows or fades: rebuilt better, and told apart without a collapse."""
    head = HeadConfig(hidden=64, bottleneck=16, clip=16, patch=16)
    model = make(name, SMALL, head=head, momentum=MomentumConfig(0.9, 1.0))
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 2e-3)
    steps = 30

    def score() -> dict[str, float]:
        found = model.eval().evaluate(fades(model, 10**6, 16))
        model.train()
        return {n: float(total / count) for n, (total, count) in found.items()}

    before = score()
    for step in range(steps):
        optimiser.zero_grad()
        model.start_step(step, steps)
        model.loss(fades(model, step))[0].backward()
        optimiser.step()
        model.end_step(step, steps)
    after = score()
    assert after["pixel"] < 0.75 * before["pixel"]
    assert after["agreement"] > before["agreement"] + 0.2
    assert after["target_spread"] > 0.3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("asit", {"view": 0.0}, "view"),
        ("asit", {"view": 0.1}, "view: 0.1 s are 10 frames, less than the 16"),
        ("asit", {"centring": 1.0}, "centring"),
        ("asit", {"pixel_weight": -1.0}, "pixel_weight"),
        ("asit-drop", {"clip_weight": 0.0, "patch_weight": 0.0, "pixel_weight": 0.0}, "one must"),
        ("asit-drop", {"drop": 1.0}, "drop"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(name, **options)


def test_reference_is_what_the_authors_program_does() -> None:
    config = AsitConfig.reference()
    assert config.places == "crop"
    assert config.corruption.alien.partner == "any"
    assert (config.head.clip, config.head.patch, config.pixel_weight) == (8192, 1024, 2.0)
