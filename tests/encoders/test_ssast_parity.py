"""The authors' SSAST, read from its files: tokens, positions and logits of both token kinds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixture_rules import close, spectrograms
from tests.published_files import FIXTURES, finetuned_ssast, pretrained_ssast

from sonoformer.encoders import load_encoder, with_stride
from sonoformer.tasks.model import load_model

STEMS = sorted(path.stem for path in (FIXTURES / "ssast").glob("ft_*.npz"))
FILES = [
    pytest.param(stem, marks=pytest.mark.slow) if "small" in stem and "std02" in stem else stem
    for stem in STEMS
]


@pytest.mark.parametrize("stem", FILES)
@torch.inference_mode()
def test_tokens_positions_and_logits_are_the_authors(stem: str, tmp_path: Path) -> None:
    _, kind, size, step, length, mode = stem.split("_")
    stride = (128, int(step[1:])) if kind == "frame" else (int(step[1:]), int(step[1:]))
    frames = int(length[1:])
    there = np.load(FIXTURES / "ssast" / f"{stem}.npz")
    spec = spectrograms(f"ssast/ft/{kind}/{frames}", frames)
    assert spec.double().sum().item() == pytest.approx(there["input_sum64"].item(), abs=1e-6)
    file = pretrained_ssast(tmp_path / "pretrained.pth", kind, size, mode)
    encoder = with_stride(load_encoder(file, profile="reference"), stride)
    tokens = encoder(spec, layers=(0, 6, 11))
    ids = there["token_ids"].astype(int)
    pixels, grid, _ = encoder.patches(spec)
    inside = ids[ids < pixels.shape[1]]
    close(encoder.patch_embed(pixels)[:, inside], there["tokens_patch_embed"], "embedding")
    for number, layer in zip((0, 6, 11), tokens.layers, strict=True):
        close(layer[:, ids], there[f"tokens_block{number}"], "block")
    close(tokens.x[:, ids], there["tokens_final_norm"], "norm")
    table = torch.cat([encoder.pos_embed[0, :2], encoder.position_table(grid)])
    assert there["pos_shape"].tolist() == [1, *table.shape]
    close(table[there["pos_ids"].astype(int)], there["pos_sample"], "positions")
    close(table.double().mean(), there["pos_mean_sum64"], "positions")
    close(table.double().std(correction=0), there["pos_std_sum64"], "positions")

    file = finetuned_ssast(tmp_path / "finetuned.pth", kind, size, mode, table.unsqueeze(0))
    said = {"stride": stride, "task": "single", "statistics": "audioset"}
    for pool, name in (("mean", "logits_ft_avgtok"), ("cls", "logits_ft_cls")):
        model = load_model(file, pool=pool, **said)
        assert model.encoder.config.table == grid
        assert torch.equal(model.encoder.position_table(grid), table[2:])
        # Its tokens are those of the encoder above; the whole way is gone for short clips.
        last = dataclasses.replace(tokens, layers=())
        logits = model.logits(spec) if frames < 1000 else model.head(last)
        close(logits, there[name], "logits")
