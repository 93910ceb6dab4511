"""The authors' supervised AST, and transformers' rewriting of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixture_rules import close, fill, ruled, spectrograms
from torch import Tensor

from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.nn.heads import ClassifierHead

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ast"
IMAGE_GRIDS = {"tiny224": ("tiny", 14), "base384": ("base", 24)}
"""Size, and rows and columns of the image model's position table."""


def files(pattern: str) -> list[str]:
    return sorted(path.stem for path in FIXTURES.glob(pattern))


def authors(stem: str) -> tuple[AstEncoder, int, str]:
    """The encoder of a fixture with the rule's weights, its frames and its weight mode."""
    model, mode = stem.split("_")[1], "wide" if "wide" in stem else "std02"
    frames = next(
        int(part[1:]) for part in stem.split("_") if part[0] == "t" and part[1:].isdigit()
    )
    size, side = IMAGE_GRIDS[model]
    image = "image_weights" in stem
    table = (side, side) if image else (12, (frames - 16) // 10 + 1)
    config = ast_config(
        size,
        depth=1 if "tables_only" in stem else 12,
        stride=(10, 10),
        table=table,
        table_stride=(10, 10),
        positions="reference",
    )
    encoder = AstEncoder(config).eval()
    fill(encoder, "v.", mode)
    if image:
        # The image model sees three colours; the authors add their weights up.
        colours = ruled("v.patch_embed.proj.weight", (config.dim, 3, 16, 16), mode)
        with torch.no_grad():
            encoder.patch_embed.proj.weight.copy_(colours.sum(1, keepdim=True))
    return encoder, frames, mode


def check_tables(encoder: AstEncoder, frames: int, there: dict[str, np.ndarray]) -> None:
    _, grid, _ = encoder.patches(torch.zeros(1, frames, 128))
    table = torch.cat([encoder.pos_embed[0, :2], encoder._positions(grid)]).numpy()
    assert there["pos_shape"].tolist() == [1, *table.shape]
    close(table[there["pos_ids"].astype(int)], there["pos_sample"], "positions")
    close(table.astype(float).mean(), there["pos_mean_sum64"], "positions")
    close(table.astype(float).std(), there["pos_std_sum64"], "positions")
    weight = encoder.patch_embed.proj.weight.flatten()[:64]
    close(weight, there["conv_weight_first64"], "positions")


@pytest.mark.parametrize("stem", files("ast_tiny224*"))
@torch.inference_mode()
def test_the_authors_ast(stem: str) -> None:
    there = dict(np.load(FIXTURES / f"{stem}.npz"))
    encoder, frames, mode = authors(stem)
    head = ClassifierHead(encoder.dim, 527)
    fill(head, "mlp_head.", mode)
    if "conv_weight_first64" in there:
        check_tables(encoder, frames, there)
    tokens = encoder(spectrograms(f"ast/{frames}", frames), layers=(0, 6, 11))
    ids = there["token_ids"].astype(int)
    for number, layer in zip((0, 6, 11), tokens.layers, strict=True):
        close(layer[:, ids], there[f"tokens_block{number}"], "block")
    close(tokens.x[:, ids], there["tokens_final_norm"], "norm")
    close(head(tokens.pool("cls")), there["logits_cls_dist"], "logits")


@pytest.mark.parametrize("stem", files("*_tables_only.npz"))
@torch.inference_mode()
def test_tables_adapted_from_images(stem: str) -> None:
    encoder, frames, _ = authors(stem)
    check_tables(encoder, frames, dict(np.load(FIXTURES / f"{stem}.npz")))


@pytest.mark.parametrize("stem", files("hf_ast_*.npz"))
@torch.inference_mode()
def test_transformers_ast(stem: str) -> None:
    name, _, mode = stem.rpartition("_")
    there = np.load(FIXTURES / f"{stem}.npz")
    facts = json.loads((FIXTURES / f"{name}_config.json").read_text())
    frames, dim, eps = facts["max_length"], facts["hidden_size"], facts["layer_norm_eps"]
    stride = facts["frequency_stride"], facts["time_stride"]
    grid = ((128 - 16) // stride[0] + 1, (frames - 16) // stride[1] + 1)
    config = ast_config(
        "tiny",
        dim=dim,
        heads=facts["num_attention_heads"],
        depth=facts["num_hidden_layers"],
        mlp_ratio=facts["intermediate_size"] / dim,
        stride=stride,
        table=grid,
        table_stride=stride,
        norm_eps=eps,
    )
    encoder = AstEncoder(config).eval()
    head = ClassifierHead(dim, facts["num_labels"], norm_eps=eps)
    fill_from_transformers(encoder, head, mode)
    tokens = encoder(spectrograms(f"hf/{name}", frames), layers=range(config.depth))
    ids = there["token_ids"].astype(int)
    for number, layer in enumerate(tokens.layers):
        close(layer[:, ids], there[f"tokens_hidden{number + 1}"], "block")
    close(head(tokens.pool("cls")), there["logits"], "logits")


def fill_from_transformers(encoder: AstEncoder, head: ClassifierHead, mode: str) -> None:
    """The rule's weights under transformers' names, put where they belong."""
    base = "audio_spectrogram_transformer"
    outer = {
        "cls_token": f"{base}.embeddings.cls_token",
        "dist_token": f"{base}.embeddings.distillation_token",
        "pos_embed": f"{base}.embeddings.position_embeddings",
        "patch_embed.proj": f"{base}.embeddings.patch_embeddings.projection",
        "norm": f"{base}.layernorm",
    }
    inner = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    state: dict[str, Tensor] = {}
    for name, value in encoder.named_parameters():
        shape = tuple(value.shape)
        module, _, kind = name.rpartition(".")
        if name in outer:
            state[name] = ruled(outer[name], shape, mode)
        elif module in outer:
            state[name] = ruled(f"{outer[module]}.{kind}", shape, mode)
        else:
            number, part = name.removeprefix("blocks.").split(".", 1)
            part = part.removesuffix(f".{kind}")
            layer = f"{base}.layers.{number}"
            if part == "attn.qkv":
                third = (shape[0] // 3, *shape[1:])
                keys = [f"{layer}.attention.{x}_proj.{kind}" for x in "qkv"]
                state[name] = torch.cat([ruled(key, third, mode) for key in keys])
            else:
                state[name] = ruled(f"{layer}.{inner[part]}.{kind}", shape, mode)
    encoder.load_state_dict(state)
    names = {"0": "classifier.layernorm", "1": "classifier.dense"}
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    head.load_state_dict({n: ruled(names[n[0]] + n[1:], s, mode) for n, s in shapes.items()})
