"""What holds for every state-space encoder: padding, order, half precision, checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.encoders import (
    Ssamba2Encoder,
    SsambaEncoder,
    load_encoder,
    save_encoder,
    ssamba2_config,
    ssamba_config,
    with_stride,
    with_table,
)
from sonoformer.errors import UserError
from sonoformer.nn.tokens import Encoder

torch.manual_seed(0)


def small(**changes: object) -> SsambaEncoder:
    """A little encoder whose states matter: steps and rates as after training."""
    made = SsambaEncoder(ssamba_config("micro", **{"dim": 32, "depth": 2, **changes}))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "x_proj" in name or "in_proj" in name:
                value.mul_(3)
            if "dt_proj.bias" in name:
                value.add_(2)
    return made.eval()


def small2(**changes: object) -> Ssamba2Encoder:
    """The same with blocks on state-space duality."""
    made = Ssamba2Encoder(
        ssamba2_config("micro", **{"dim": 32, "depth": 2, "head_width": 16, **changes})  # type: ignore[arg-type]
    )
    return made.eval()


ENCODERS = {
    "patch": small(),
    "overlap": small(stride=(10, 10), cls="middle"),
    "frame": small(patch=(128, 2), stride=(128, 2), table=(1, 64), table_stride=(128, 2)),
    "pairs": small(wiring="reference", cls="last"),
    "forward": small(directions="forward", cls="last"),
    "dual": small2(),
    "dual forward": small2(directions="forward", cls="last"),
}


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(sorted(ENCODERS)),
    lengths=st.lists(st.integers(1, 32000), min_size=2, max_size=3),
    pool=st.sampled_from(["mean", "cls"]),
)
@torch.inference_mode()
def test_padding_changes_nothing(kind: str, lengths: list[int], pool: str) -> None:
    encoder = ENCODERS[kind]
    clips = [torch.randn(n, generator=torch.Generator().manual_seed(n)) * 0.1 for n in lengths]
    wave = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    together = encoder.pooled(wave, torch.tensor(lengths), pool)  # type: ignore[arg-type]
    for row, clip in zip(together, clips, strict=True):
        alone = encoder.pooled(clip[None], torch.tensor([len(clip)]), pool)[0]  # type: ignore[arg-type]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", sorted(ENCODERS))
@torch.inference_mode()
def test_every_token_and_layer_is_that_of_the_clip_alone(kind: str) -> None:
    encoder = ENCODERS[kind]
    spec = torch.randn(2, 90, 128)
    last = len(encoder.blocks) - 1
    both = encoder(spec, torch.tensor([90, 40]), layers=(0, last))
    alone = encoder(spec[1:, :40], layers=(0, last))
    rows = [both.x, *both.layers]
    for one, other in zip(rows, [alone.x, *alone.layers], strict=True):
        kept = torch.cat([one[1, :1], one[1, 1:][both.valid[1]]])
        torch.testing.assert_close(kept, other[0], atol=1e-5, rtol=0)


def test_what_is_padding_may_hold_anything() -> None:
    encoder = ENCODERS["patch"]
    pixels, grid, _ = encoder.patches(torch.randn(2, 64, 128))
    valid = torch.ones(2, 32, dtype=torch.bool)
    valid[1, 3::4] = False
    x = encoder.embed_patches(pixels, grid)
    there = encoder.encode(x, valid, grid).pool()
    x = x.masked_fill(~valid.unsqueeze(-1), 1e4)
    torch.testing.assert_close(encoder.encode(x, valid, grid).pool(), there)


def test_directions() -> None:
    spec = torch.randn(1, 64, 128)
    other = spec.clone()
    other[:, 48:, 112:] += 1  # the last token alone
    for kind, hears in (
        ("patch", True),
        ("pairs", True),
        ("forward", False),
        ("dual", True),
        ("dual forward", False),
    ):
        encoder = ENCODERS[kind]
        gap = (encoder(spec).x - encoder(other).x).abs()[0, 1:-1].max()
        assert bool(gap > 1e-6) == hears, kind


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_gradients_reach_every_weight(kind: str) -> None:
    encoder = ENCODERS[kind]
    encoder.zero_grad()
    tokens = encoder(torch.randn(2, 20000) * 0.1, torch.tensor([20000, 9000]))
    (tokens.pool("mean").square().sum() + tokens.pool("cls").square().sum()).backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_encoders_keep_the_protocol() -> None:
    for encoder in ENCODERS.values():
        assert isinstance(encoder, Encoder)
        assert encoder.order_matters
    assert ENCODERS["patch"].depth == 2
    assert ENCODERS["pairs"].depth == 1
    assert ENCODERS["frame"].seconds_per_token == pytest.approx(0.02)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_sizes_are_the_papers(size: str) -> None:
    with torch.device("meta"):
        made = SsambaEncoder(ssamba_config(size))
    own = sum(p.numel() for p in made.parameters())
    assert own / 1e6 == pytest.approx({"tiny": 6.92, "small": 25.35, "base": 96.70}[size], abs=0.01)


@pytest.mark.parametrize("samples", [1, 100, 400, 2000])
def test_a_clip_shorter_than_a_patch_has_tokens(samples: int) -> None:
    for encoder in ENCODERS.values():
        tokens = encoder(torch.randn(1, samples) * 0.1, torch.tensor([samples]))
        assert tokens.valid.any()
        assert torch.isfinite(tokens.pool()).all()


def test_no_tokens_are_refused() -> None:
    encoder = ENCODERS["patch"]
    with pytest.raises(ValueError, match="has no tokens"):
        encoder.encode(torch.zeros(1, 0, 32), None, (8, 0))


def test_a_clip_that_is_not_a_number_spoils_no_other() -> None:
    spec = torch.randn(2, 64, 128)
    there = ENCODERS["patch"](spec).pool()
    spec[1, 20] = torch.nan
    here = ENCODERS["patch"](spec).pool()
    torch.testing.assert_close(here[0], there[0])
    assert here[1].isnan().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_the_doubling_stream_stays_finite_in_half_precision(kind: torch.dtype) -> None:
    deep = small(wiring="reference", depth=40)
    spec = torch.randn(1, 64, 128)
    exact = deep(spec).pool()
    with torch.autocast("cpu", kind):
        tokens = deep(spec)
    assert deep(spec, layers=(18,)).layers[0].abs().max() > 65504
    assert tokens.x.isfinite().all()
    cosine = torch.nn.functional.cosine_similarity(tokens.pool().float(), exact)
    assert float(cosine) > 0.99


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    for kind, encoder in ENCODERS.items():
        save_encoder(encoder, tmp_path / kind, "card")
        again = load_encoder(tmp_path / kind)
        assert type(again) is type(encoder)
        assert again.config == encoder.config
        spec = torch.randn(1, 48, 128)
        assert torch.equal(again(spec).x, encoder(spec).x)


def test_strides_and_tables_change_as_with_attention() -> None:
    encoder = ENCODERS["patch"]
    fine = with_stride(encoder, (10, 10))
    assert type(fine) is SsambaEncoder
    assert fine(torch.randn(1, 64, 128)).grid == (12, 5)
    assert with_table(encoder, (8, 80)).pos_embed.shape == (1, 641, 32)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"cls": "none"}, "cls"),
        ({"directions": "back"}, "directions"),
        ({"wiring": "odd"}, "wiring"),
        ({"wiring": "reference", "depth": 3}, "even depth"),
        ({"states": 0}, "states"),
        ({"dim": 0}, "dim, depth"),
        ({"norm_eps": 0.0}, "norm_eps"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, object], what: str) -> None:
    with pytest.raises(UserError, match=what):
        replace(ssamba_config("micro"), **changes)  # type: ignore[arg-type]


def test_wrong_sizes_are_named() -> None:
    for make in (ssamba_config, ssamba2_config):
        with pytest.raises(UserError, match="must be one of"):
            make("huge")
    with pytest.raises(UserError, match="head_width"):
        ssamba2_config("micro", head_width=48)
