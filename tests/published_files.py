"""Checkpoint files as the authors' programs and transformers write them, with known weights.

Names and shapes are those of the references (`fixtures/*/keys.json`), weights follow the rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.fixture_rules import ruled, ruled_ssamba
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"
_COUNTS = {"p_input_fdim": 128, "p_input_tdim": 1024}


def state(
    family: str, table: str, mode: str, wanted: Callable[[str], bool] = lambda key: True
) -> dict[str, Tensor]:
    """A reference's state dictionary, or the `wanted` part of it."""
    keys = json.loads((FIXTURES / family / "keys.json").read_text())[table]
    keys = {key: facts for key, facts in keys.items() if wanted(key)}
    return {
        key: torch.tensor(_COUNTS[key])
        if key in _COUNTS
        else ruled(key, tuple(facts["shape"]), mode)
        for key, facts in keys.items()
    }


def parallel(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As DataParallel names them."""
    return {f"module.{name}": value for name, value in tensors.items()}


def pretrained_ssast(path: Path, kind: str, size: str, mode: str) -> Path:
    """A pretraining's file."""
    torch.save(parallel(state("ssast", f"pretrain_{kind}_{size}", mode)), path)
    return path


def finetuned_ssast(path: Path, kind: str, size: str, mode: str, table: Tensor) -> Path:
    """A fine-tuning's file: the position table `(1, tokens, dim)` is that of its clips."""
    whole = state("ssast", f"pretrain_{kind}_{size}", mode)
    whole = {name: value for name, value in whole.items() if name.startswith("v.")}
    whole["v.pos_embed"] = table
    head = state("ssast", f"finetune_head_{size}_50_classes", mode)
    torch.save(parallel({**whole, **head}), path)
    return path


def supervised_ast(path: Path, frames: int, mode: str) -> Path:
    """An AST's file, 527 classes, tiny."""
    torch.save(parallel(state("ast", f"tiny224_scratch_t{frames}", mode)), path)
    return path


def image_model(path: Path, size: str, mode: str, depth: int = 12) -> Path:
    """A DeiT file: timm's names, three colours; `depth` of its blocks."""

    def early(key: str) -> bool:
        return "blocks." not in key or int(key.split(".")[2]) < depth

    whole = state("ast", f"{size}_image_weights", mode, early)
    kept = {name.removeprefix("v."): value for name, value in whole.items()}
    torch.save({"model": kept}, path)
    return path


def transformers_folder(folder: Path, name: str, mode: str, *, newer: bool = False) -> Path:
    """A folder of transformers; `newer`: a .bin file with the names of transformers 5 in memory."""
    folder.mkdir(parents=True)
    settings = json.loads((FIXTURES / "ast" / f"{name}_config.json").read_text())
    labels = {str(number): f"sound {number}" for number in range(settings.pop("num_labels"))}
    settings |= {"model_type": "audio-spectrogram-transformer", "id2label": labels}
    (folder / "config.json").write_text(json.dumps(settings))
    extractor = {
        "feature_extractor_type": "ASTFeatureExtractor",
        "max_length": settings["max_length"],
        "mean": -4.2677393,
        "std": 4.5689974,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    tensors = state("ast", name, mode)
    if newer:
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    keys = json.loads((FIXTURES / "ast" / "keys.json").read_text())[name]
    saved = {keys[key]["name_in_saved_file"]: value for key, value in tensors.items()}
    save_file(saved, folder / "model.safetensors", {"format": "pt"})
    return folder


def ssamba_state(table: str, mode: str) -> dict[str, Tensor]:
    """A state dictionary of SSAMBA's program, or a part of one."""
    keys = json.loads((FIXTURES / "ssamba" / "keys.json").read_text())[table]
    return {
        key: torch.tensor(_COUNTS[key])
        if key in _COUNTS
        else ruled_ssamba(key, tuple(facts["shape"]), mode)
        for key, facts in keys.items()
    }


def pretrained_ssamba(path: Path, mode: str, depth: int = 4) -> Path:
    """A pretraining's file, tiny."""
    torch.save(parallel(ssamba_state(f"pretrain_tiny_depth{depth}", mode)), path)
    return path


def finetuned_ssamba(path: Path, mode: str, depth: int, table: Tensor) -> Path:
    """A fine-tuning's file: the position table `(1, tokens, dim)` is that of its clips."""
    whole = ssamba_state(f"pretrain_tiny_depth{depth}", mode)
    whole = {name: value for name, value in whole.items() if name.startswith("v.")}
    whole["v.pos_embed"] = table
    head = ssamba_state("finetune_head_tiny_50_classes", mode)
    torch.save(parallel({**whole, **head}), path)
    return path
