"""The authors' supervised AST, and transformers' rewriting of it, read from their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixture_rules import close, fill, spectrograms
from tests.published_files import FIXTURES, image_model, supervised_ast, transformers_folder

from sonoformer.encoders import AstEncoder, load_encoder
from sonoformer.nn.heads import ClassifierHead
from sonoformer.tasks.model import load_model


def files(pattern: str) -> list[str]:
    return sorted(path.stem for path in (FIXTURES / "ast").glob(f"{pattern}.npz"))


def facts(stem: str) -> tuple[int, str]:
    """Frames and weight mode of a fixture, from its name."""
    parts = stem.split("_")
    frames = next(part for part in parts if part[0] == "t" and part[1:].isdigit())
    return int(frames[1:]), "wide" if "wide" in parts else "std02"


def check_tables(encoder: AstEncoder, frames: int, there: dict[str, np.ndarray]) -> None:
    _, grid, _ = encoder.patches(torch.zeros(1, frames, 128))
    table = torch.cat([encoder.pos_embed[0, :2], encoder.position_table(grid)])
    assert there["pos_shape"].tolist() == [1, *table.shape]
    close(table[there["pos_ids"].astype(int)], there["pos_sample"], "positions")
    close(table.double().mean(), there["pos_mean_sum64"], "positions")
    close(table.double().std(correction=0), there["pos_std_sum64"], "positions")
    weight = encoder.patch_embed.proj.weight.flatten()[:64]
    close(weight, there["conv_weight_first64"], "positions")


def check_tokens(encoder: AstEncoder, frames: int, there: dict[str, np.ndarray]) -> None:
    tokens = encoder(spectrograms(f"ast/{frames}", frames), layers=(0, 6, 11))
    ids = there["token_ids"].astype(int)
    for number, layer in zip((0, 6, 11), tokens.layers, strict=True):
        close(layer[:, ids], there[f"tokens_block{number}"], "block")
    close(tokens.x[:, ids], there["tokens_final_norm"], "norm")


@pytest.mark.parametrize("stem", files("ast_tiny224_t*"))
@torch.inference_mode()
def test_the_authors_ast(stem: str, tmp_path: Path) -> None:
    there = dict(np.load(FIXTURES / "ast" / f"{stem}.npz"))
    frames, mode = facts(stem)
    file = supervised_ast(tmp_path / "ast.pth", frames, mode)
    # The table of 1024 frames fits one published stride only, and need not be told.
    stride = {} if frames == 1024 else {"stride": (10, 10)}
    model = load_model(file, pool="cls", task="multi", statistics="audioset", **stride)
    check_tokens(model.encoder, frames, there)
    logits = model.logits(spectrograms(f"ast/{frames}", frames))
    close(logits, there["logits_cls_dist"], "logits")


@pytest.mark.parametrize("stem", files("ast_tiny224_from_image_weights_*"))
@torch.inference_mode()
def test_the_authors_ast_from_images(stem: str, tmp_path: Path) -> None:
    there = dict(np.load(FIXTURES / "ast" / f"{stem}.npz"))
    frames, mode = facts(stem)
    encoder = load_encoder(image_model(tmp_path / "deit.pth", "tiny224", mode))
    check_tables(encoder, frames, there)
    check_tokens(encoder, frames, there)
    head = ClassifierHead(encoder.dim, 527)
    fill(head, "mlp_head.", mode)
    tokens = encoder(spectrograms(f"ast/{frames}", frames))
    close(head(tokens.pool("cls")), there["logits_cls_dist"], "logits")


@pytest.mark.parametrize("stem", files("*_tables_only"))
@torch.inference_mode()
def test_tables_adapted_from_images(stem: str, tmp_path: Path) -> None:
    frames, mode = facts(stem)
    encoder = load_encoder(image_model(tmp_path / "deit.pth", "base384", mode, depth=1))
    check_tables(encoder, frames, dict(np.load(FIXTURES / "ast" / f"{stem}.npz")))


@pytest.mark.parametrize("newer", [False, True], ids=["saved", "newer"])
@pytest.mark.parametrize("stem", files("hf_ast_*"))
@torch.inference_mode()
def test_transformers_ast(stem: str, newer: bool, tmp_path: Path) -> None:
    name, _, mode = stem.rpartition("_")
    there = np.load(FIXTURES / "ast" / f"{stem}.npz")
    settings = json.loads((FIXTURES / "ast" / f"{name}_config.json").read_text())
    model = load_model(transformers_folder(tmp_path / name, name, mode, newer=newer))
    spec = spectrograms(f"hf/{name}", settings["max_length"])
    tokens = model.encoder(spec, layers=range(settings["num_hidden_layers"]))
    ids = there["token_ids"].astype(int)
    for number, layer in enumerate(tokens.layers):
        close(layer[:, ids], there[f"tokens_hidden{number + 1}"], "block")
    close(model.logits(spec), there["logits"], "logits")
    assert model.classes[0] == "sound 0"
