"""What holds for every AST: padding, strides, short clips, gradients, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.audio import write
from sonoformer.encoders import (
    AstEncoder,
    ast_config,
    load_encoder,
    save_encoder,
    with_statistics,
    with_stride,
)
from sonoformer.errors import UserError
from sonoformer.nn.patches import cut
from sonoformer.nn.positions import by_seconds
from sonoformer.nn.tokens import Encoder

torch.manual_seed(0)
ENCODERS = {
    "patch": AstEncoder(ast_config("micro", depth=2)).eval(),
    "overlap": AstEncoder(ast_config("micro", depth=2, stride=(10, 10))).eval(),
    "frame": AstEncoder(ast_config("micro", "frame", depth=2)).eval(),
}


@settings(max_examples=12)
@given(
    kind=st.sampled_from(sorted(ENCODERS)),
    lengths=st.lists(st.integers(1, 48000), min_size=2, max_size=4),
    pool=st.sampled_from(["mean", "cls"]),
)
@torch.inference_mode()
def test_padding_changes_nothing(kind: str, lengths: list[int], pool: str) -> None:
    encoder = ENCODERS[kind]
    clips = [torch.randn(n, generator=torch.Generator().manual_seed(n)) * 0.1 for n in lengths]
    wave = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    together = encoder.pooled(wave, torch.tensor(lengths), pool)  # type: ignore[arg-type]
    for row, clip in zip(together, clips, strict=True):
        length = torch.tensor([len(clip)])
        alone = encoder.pooled(clip[None], length, pool)[0]  # type: ignore[arg-type]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_five_minutes_beside_a_third_of_a_second() -> None:
    encoder = ENCODERS["patch"]
    wave = torch.zeros(2, 16000 * 20)
    wave[0] = torch.randn(16000 * 20) * 0.1
    wave[1, :4800] = torch.randn(4800) * 0.1
    tokens = encoder(wave, torch.tensor([16000 * 20, 4800]))
    alone = encoder(wave[1:, :4800])
    torch.testing.assert_close(tokens.pool()[1], alone.pool()[0], atol=1e-5, rtol=0)
    assert tokens.valid[1].sum() == alone.valid.sum() == 8  # 28 frames: one column


@pytest.mark.parametrize("samples", [1, 100, 400, 2000])
def test_a_clip_shorter_than_a_patch_has_tokens(samples: int) -> None:
    for encoder in ENCODERS.values():
        tokens = encoder(torch.randn(1, samples) * 0.1, torch.tensor([samples]))
        assert tokens.valid.any()
        assert torch.isfinite(tokens.pool()).all()


def test_encoders_keep_the_protocol() -> None:
    for encoder in ENCODERS.values():
        assert isinstance(encoder, Encoder)
    assert ENCODERS["overlap"].seconds_per_token == pytest.approx(0.1)
    assert ENCODERS["frame"].seconds_per_token == pytest.approx(0.02)


def test_gradients_reach_every_weight() -> None:
    encoder = AstEncoder(ast_config("micro", depth=2, stride=(10, 10)))
    tokens = encoder(torch.randn(2, 16000) * 0.1)
    (tokens.pool("mean").square().sum() + tokens.pool("cls").square().sum()).backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(("patch", "stride"), [((16, 16), (16, 16)), ((16, 16), (10, 7))])
def test_patches_and_projection_are_a_convolution(
    patch: tuple[int, int], stride: tuple[int, int]
) -> None:
    encoder = AstEncoder(ast_config("micro", depth=1, patch=patch, stride=stride))
    spec = torch.randn(2, 75, 128)
    proj = encoder.patch_embed.proj
    theirs = F.conv2d(spec.transpose(1, 2)[:, None], proj.weight, proj.bias, stride)
    ours = encoder.patch_embed(cut(spec, patch, stride))
    torch.testing.assert_close(ours, theirs.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)


def test_positions_follow_seconds_not_indices() -> None:
    table = torch.arange(64.0).expand(1, 8, 64).contiguous()
    fine = by_seconds(table, (8, 101), (16, 10), (16, 16)).reshape(8, 101)
    expected = (torch.arange(101) * 10 / 16).clamp(max=63)
    torch.testing.assert_close(fine[0], expected, atol=1e-4, rtol=0)
    short = by_seconds(table, (8, 9), (16, 10), (16, 16)).reshape(8, 9)
    torch.testing.assert_close(short, fine[:, :9])


def test_a_dropped_token_keeps_its_position() -> None:
    encoder = ENCODERS["patch"]
    pixels, grid, _ = encoder.patches(torch.randn(1, 64, 128))
    every = encoder.embed_patches(pixels, grid)
    index = torch.tensor([[3, 17, 30]])
    kept = encoder.embed_patches(pixels[:, index[0]], grid, index)
    torch.testing.assert_close(kept, every[:, index[0]])


def test_the_mask_token_takes_the_place_of_the_embedding_alone() -> None:
    encoder = ENCODERS["patch"]
    pixels, grid, _ = encoder.patches(torch.randn(1, 64, 128))
    mask = torch.zeros(1, 32, dtype=torch.bool)
    mask[0, 5] = True
    token = torch.randn(encoder.dim)
    x = encoder.embed_patches(pixels, grid, replace=(mask, token))
    plain = encoder.embed_patches(pixels, grid)
    torch.testing.assert_close(x[~mask], plain[~mask])
    torch.testing.assert_close(x[0, 5], token + encoder.position_table(grid)[5])


def test_drop_path_is_off_in_evaluation_and_leaves_clips_out_in_training() -> None:
    encoder = AstEncoder(ast_config("micro", depth=3, drop_path=0.9))
    spec = torch.randn(2, 32, 128)
    encoder.eval()
    torch.testing.assert_close(encoder(spec).x, encoder(spec).x)
    encoder.train()
    torch.manual_seed(0)
    first = encoder(spec).x
    assert any(not torch.equal(first, encoder(spec).x) for _ in range(20))


def test_a_saved_encoder_is_the_same(tmp_path: Path) -> None:
    encoder = with_statistics(ENCODERS["overlap"], -5.0, 3.0)
    save_encoder(encoder, tmp_path / "model", "card")
    again = load_encoder(tmp_path)
    assert again.config == encoder.config
    wave = torch.randn(1, 8000) * 0.1
    torch.testing.assert_close(again(wave).x, encoder(wave).x, rtol=0, atol=0)


def test_strides_change_without_new_weights() -> None:
    fine = with_stride(ENCODERS["patch"], (16, 4))
    wave = torch.randn(1, 16000) * 0.1
    assert fine(wave).grid[1] > 3 * ENCODERS["patch"](wave).grid[1]


def test_embed_of_a_file_is_that_of_its_samples(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 40000).astype(np.float32)
    write(tmp_path / "x.wav", sound, 16000, subtype="FLOAT")
    encoder = ENCODERS["patch"]
    from_file = encoder.embed(tmp_path / "x.wav", window=1.0)
    assert from_file.shape == (3, encoder.dim)
    torch.testing.assert_close(from_file, encoder.embed(torch.from_numpy(sound), window=1.0))


@pytest.mark.parametrize(
    "changes", [{"heads": 5}, {"patch": (256, 16)}, {"drop_path": 1.0}, {"prefix": 3}]
)
def test_shapes_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        ast_config("micro", **changes)


def test_the_nearest_size_is_suggested() -> None:
    with pytest.raises(UserError, match="'tiny'"):
        ast_config("tinny")
