"""The authors' SSAST after fine-tuning: tokens, position tables and logits of both token kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixture_rules import close, fill, spectrograms

from sonoformer.encoders import AstConfig, AstEncoder, ast_config
from sonoformer.nn.heads import ClassifierHead

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ssast"
FILES = sorted(path.stem for path in FIXTURES.glob("ft_*.npz"))


def authors(stem: str) -> tuple[AstConfig, int, str]:
    """Configuration, frames and weight mode of a fixture, from its name."""
    _, kind, size, stride, frames, mode = stem.split("_")
    step = int(stride[1:])
    config = ast_config(
        size,
        kind,  # type: ignore[arg-type]
        stride=(step, step) if kind == "patch" else (128, step),
        positions="reference",
    )
    return config, int(frames[1:]), mode


@pytest.mark.parametrize("stem", FILES)
@torch.inference_mode()
def test_tokens_positions_and_logits_are_the_authors(stem: str) -> None:
    config, frames, mode = authors(stem)
    there = np.load(FIXTURES / f"{stem}.npz")
    encoder, head = AstEncoder(config).eval(), ClassifierHead(config.dim, 50)
    fill(encoder, "v.", mode)
    fill(head, "mlp_head.", mode)
    spec = spectrograms(f"ssast/ft/{stem.split('_')[1]}/{frames}", frames)
    assert spec.double().sum().item() == pytest.approx(there["input_sum64"].item(), abs=1e-6)
    tokens = encoder(spec, layers=(0, 6, 11))
    close(head(tokens.pool("mean")), there["logits_ft_avgtok"], "logits")
    close(head(tokens.pool("cls")), there["logits_ft_cls"], "logits")
    close(head(encoder.pooled(spec, pool="cls")), there["logits_ft_cls"], "logits")
    ids = there["token_ids"].astype(int)
    pixels, grid, _ = encoder.patches(spec)
    inside = ids[ids < pixels.shape[1]]
    close(encoder.patch_embed(pixels)[:, inside], there["tokens_patch_embed"], "embedding")
    for number, layer in zip((0, 6, 11), tokens.layers, strict=True):
        close(layer[:, ids], there[f"tokens_block{number}"], "block")
    close(tokens.x[:, ids], there["tokens_final_norm"], "norm")
    table = torch.cat([encoder.pos_embed[0, :2], encoder._positions(grid)]).numpy()
    assert there["pos_shape"].tolist() == [1, *table.shape]
    close(table[there["pos_ids"].astype(int)], there["pos_sample"], "positions")
    close(table.astype(float).mean(), there["pos_mean_sum64"], "positions")
    close(table.astype(float).std(), there["pos_std_sum64"], "positions")
