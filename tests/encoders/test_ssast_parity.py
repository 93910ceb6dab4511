"""The authors' SSAST after fine-tuning: tokens, position tables and logits of both token kinds."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sonoformer.encoders import AstConfig, AstEncoder, ast_config
from sonoformer.nn.heads import ClassifierHead

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ssast"
FILES = sorted(path.stem for path in FIXTURES.glob("ft_*.npz"))


def ruled(key: str, shape: tuple[int, ...], mode: str) -> Tensor:
    """The weight that the fixtures' rule gives to a key of the authors' checkpoint."""
    seed = zlib.crc32(key.encode()) & 0xFFFFFFFF
    n = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    weight, wide = key.endswith(".weight"), mode == "wide"
    if len(shape) == 1:
        scale = np.float32(0.1 if wide else 0.02)
        return torch.from_numpy(1 + scale * n if weight else scale * n)
    spread = 1 / math.sqrt(math.prod(shape[1:])) if weight else 0.5
    return torch.from_numpy(np.float32(spread if wide else 0.02) * n)


def spectrograms(name: str, frames: int) -> Tensor:
    """The fixtures' two input spectrograms, `(2, frames, 128)`."""
    seed = zlib.crc32(f"input/{name}".encode())
    n = np.random.RandomState(seed).standard_normal((2, frames, 128))
    time = np.arange(frames)[None, :, None] / frames - 0.5
    bins = np.arange(128)[None, None, :] / 128 - 0.5
    sign = np.array([1.0, -1.0])[:, None, None]
    return torch.from_numpy((0.5 * n + 0.5 * sign * time + 0.25 * bins).astype(np.float32))


def filled(encoder: AstEncoder, mode: str) -> AstEncoder:
    """The encoder with the rule's weights."""
    weights = {
        name: ruled(f"v.{name}", tuple(value.shape), mode)
        for name, value in encoder.named_parameters()
    }
    encoder.load_state_dict(weights)
    return encoder.eval()


def head_of(dim: int, classes: int, mode: str) -> ClassifierHead:
    """The authors' `mlp_head` with the rule's weights."""
    head = ClassifierHead(dim, classes)
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    head.load_state_dict({n: ruled(f"mlp_head.{n}", shape, mode) for n, shape in shapes.items()})
    return head


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
    encoder = filled(AstEncoder(config), mode)
    spec = spectrograms(f"ssast/ft/{stem.split('_')[1]}/{frames}", frames)
    np.testing.assert_allclose(spec.numpy().ravel()[:8], there["input_first8"], atol=1e-6)
    tokens = encoder(spec, layers=range(config.depth))
    head = head_of(config.dim, 50, mode)
    for pool, name in (("mean", "logits_ft_avgtok"), ("cls", "logits_ft_cls")):
        logits = head(tokens.pool(pool)).numpy()  # type: ignore[arg-type]
        np.testing.assert_allclose(logits, there[name], atol=5e-6, rtol=0)
        direct = head(encoder.pooled(spec, pool=pool)).numpy()  # type: ignore[arg-type]
        np.testing.assert_allclose(direct, there[name], atol=5e-6, rtol=0)
    compared = 0
    for key in there.files:
        if not key.startswith("tokens_") or key == "tokens_patch_embed":
            continue
        last = key == "tokens_final_norm"
        x = tokens.x if last else tokens.layers[int(key.removeprefix("tokens_block"))]
        ids = [i for i in there["token_ids"].tolist() if i < x.shape[1]]
        ours = x[:, ids].numpy()
        np.testing.assert_allclose(
            ours, there[key][:, : len(ids)], atol=2e-5 if last else 5e-5, rtol=0
        )
        compared += 1
    assert compared == 4


@pytest.mark.parametrize("stem", FILES)
def test_position_tables_are_the_authors(stem: str) -> None:
    config, frames, mode = authors(stem)
    there = np.load(FIXTURES / f"{stem}.npz")
    encoder = filled(AstEncoder(config), mode)
    _, grid, _ = encoder.patches(torch.zeros(1, frames, 128))
    table = torch.cat([encoder.pos_embed[0, :2], encoder._positions(grid)]).detach().numpy()
    assert tuple(there["pos_shape"].tolist())[-2:] == table.shape
    ids = there["pos_ids"].astype(int)
    np.testing.assert_allclose(table[ids], there["pos_sample"], atol=1e-6, rtol=0)
