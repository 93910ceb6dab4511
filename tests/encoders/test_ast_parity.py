"""The authors' supervised AST, and transformers' rewriting of it."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.nn.heads import ClassifierHead

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ast"


def ruled(key: str, shape: tuple[int, ...]) -> Tensor:
    """The weight that the fixtures' rule gives to a key, mode `wide`."""
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    weight = key.endswith(".weight")
    if len(shape) == 1:
        return torch.from_numpy(1 + np.float32(0.1) * n if weight else np.float32(0.1) * n)
    spread = 1 / math.sqrt(math.prod(shape[1:])) if weight else 0.5
    return torch.from_numpy(np.float32(spread) * n)


def spectrograms(name: str, frames: int) -> Tensor:
    """The fixtures' two input spectrograms, `(2, frames, 128)`."""
    n = np.random.RandomState(zlib.crc32(f"input/{name}".encode())).standard_normal(
        (2, frames, 128)
    )
    time = np.arange(frames)[None, :, None] / frames - 0.5
    bins = np.arange(128)[None, None, :] / 128 - 0.5
    sign = np.array([1.0, -1.0])[:, None, None]
    return torch.from_numpy((0.5 * n + 0.5 * sign * time + 0.25 * bins).astype(np.float32))


@torch.inference_mode()
def test_the_authors_ast() -> None:
    there = np.load(FIXTURES / "ast_tiny224_t400_wide.npz")
    grid = (12, 39)
    config = ast_config(
        "tiny", stride=(10, 10), table=grid, table_stride=(10, 10), positions="reference"
    )
    encoder = AstEncoder(config).eval()
    shapes = {name: tuple(value.shape) for name, value in encoder.named_parameters()}
    encoder.load_state_dict({n: ruled(f"v.{n}", shape) for n, shape in shapes.items()})
    head = ClassifierHead(192, 527)
    own = {name: tuple(value.shape) for name, value in head.named_parameters()}
    head.load_state_dict({n: ruled(f"mlp_head.{n}", shape) for n, shape in own.items()})
    tokens = encoder(spectrograms("ast/400", 400), layers=(0, 6, 11))
    ids = there["token_ids"].astype(int)
    for number, layer in zip((0, 6, 11), tokens.layers, strict=True):
        theirs = there[f"tokens_block{number}"]
        np.testing.assert_allclose(layer[:, ids].numpy(), theirs, atol=5e-5, rtol=0)
    final = tokens.x[:, ids].numpy()
    np.testing.assert_allclose(final, there["tokens_final_norm"], atol=2e-5, rtol=0)
    logits = head(tokens.pool("cls")).numpy()
    np.testing.assert_allclose(logits, there["logits_cls_dist"], atol=5e-6, rtol=0)


@torch.inference_mode()
def test_transformers_ast() -> None:
    there = np.load(FIXTURES / "hf_ast_a_wide.npz")
    facts = json.loads((FIXTURES / "hf_ast_a_config.json").read_text())
    frames, dim, eps = facts["max_length"], facts["hidden_size"], facts["layer_norm_eps"]
    grid = ((128 - 16) // 10 + 1, (frames - 16) // 10 + 1)
    config = ast_config(
        "tiny",
        dim=dim,
        heads=facts["num_attention_heads"],
        depth=facts["num_hidden_layers"],
        mlp_ratio=facts["intermediate_size"] / dim,
        stride=(10, 10),
        table=grid,
        table_stride=(10, 10),
        norm_eps=eps,
    )
    encoder, head = AstEncoder(config).eval(), ClassifierHead(dim, 10, norm_eps=eps)
    _fill_from_transformers(encoder, head)
    tokens = encoder(spectrograms("hf/hf_ast_a", frames))
    logits = head(tokens.pool("cls")).numpy()
    np.testing.assert_allclose(logits, there["logits"], atol=5e-6, rtol=0)


def _fill_from_transformers(encoder: AstEncoder, head: ClassifierHead) -> None:
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
    state = {}
    for name, value in encoder.named_parameters():
        shape = tuple(value.shape)
        module, _, kind = name.rpartition(".")
        if name in outer:
            state[name] = ruled(outer[name], shape)
        elif module in outer:
            state[name] = ruled(f"{outer[module]}.{kind}", shape)
        else:
            number, part = name.removeprefix("blocks.").split(".", 1)
            part = part.removesuffix(f".{kind}")
            layer = f"{base}.layers.{number}"
            if part == "attn.qkv":
                third = (shape[0] // 3, *shape[1:])
                parts = [ruled(f"{layer}.attention.{x}_proj.{kind}", third) for x in "qkv"]
                state[name] = torch.cat(parts)
            else:
                state[name] = ruled(f"{layer}.{inner[part]}.{kind}", shape)
    encoder.load_state_dict(state)
    names = {"0": "classifier.layernorm", "1": "classifier.dense"}
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    head.load_state_dict({n: ruled(f"{names[n[0]]}{n[1:]}", shape) for n, shape in shapes.items()})
