"""The AST of transformers (`audio-spectrogram-transformer`): names and settings, both ways.

It differs from the authors' program in one epsilon for all norms (1e-12 by default), in a fixed
number of frames, and in the mean of cls and dist as its only pooling. Patches are square.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sonoformer.encoders.ast import AstConfig
from sonoformer.encoders.ast_grid import Fit, fit
from sonoformer.encoders.published import Hints, Published, PublishedHead, class_names, front_end
from sonoformer.errors import UserError, brief
from sonoformer.spectral import FbankConfig

MODEL_TYPE = "audio-spectrogram-transformer"
_BASE = "audio_spectrogram_transformer."
_OUTER = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_BLOCK = "encoder.layer."
_INNER = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_QKV = ("attention.attention.query", "attention.attention.key", "attention.attention.value")
_HEAD = {"0": "classifier.layernorm", "1": "classifier.dense"}
_NEWER = {
    "attention.q_proj": _QKV[0],
    "attention.k_proj": _QKV[1],
    "attention.v_proj": _QKV[2],
    "attention.o_proj": _INNER["attn.proj"],
    "mlp.fc1": _INNER["mlp.fc1"],
    "mlp.fc2": _INNER["mlp.fc2"],
}
"""Names inside a block since transformers 5, which writes files under the older ones."""
_LARGEST = sys.float_info.max
"""JSON's whole numbers know no bound."""


# Names --------------------------------------------------------------------------------------------


def to_transformers(encoder: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the names that transformers writes to files."""
    found: dict[str, Tensor] = {}
    for name, value in encoder.items():
        module, _, kind = name.rpartition(".")
        if name in _OUTER:
            found[_BASE + _OUTER[name]] = value
        elif module in _OUTER:
            found[f"{_BASE}{_OUTER[module]}.{kind}"] = value
        else:
            number, part = module.removeprefix("blocks.").split(".", 1)
            stem = f"{_BASE}{_BLOCK}{number}."
            if part == "attn.qkv":
                for their, third in zip(_QKV, value.chunk(3), strict=True):
                    found[f"{stem}{their}.{kind}"] = third
            else:
                found[f"{stem}{_INNER[part]}.{kind}"] = value
    for name, value in head.items():
        number, _, kind = name.partition(".")
        found[f"{_HEAD[number]}.{kind}"] = value
    return found


def from_transformers(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Encoder and head under our names; names that are not known stay as they are."""
    outer = {theirs: ours for ours, theirs in _OUTER.items()}
    inner = {theirs: ours for ours, theirs in _INNER.items()}
    heads = {theirs: ours for ours, theirs in _HEAD.items()}
    encoder: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, tuple[str, Tensor]]] = {}
    for name, value in tensors.items():
        short = _older(name.removeprefix(_BASE))
        module, _, kind = short.rpartition(".")
        block = re.fullmatch(rf"{re.escape(_BLOCK)}(\d+)\.(.+)", module)
        if short in outer:
            encoder[outer[short]] = value
        elif module in outer:
            encoder[f"{outer[module]}.{kind}"] = value
        elif module in heads:
            head[f"{heads[module]}.{kind}"] = value
        elif block and block[2] in inner:
            encoder[f"blocks.{block[1]}.{inner[block[2]]}.{kind}"] = value
        elif block and block[2] in _QKV:
            thirds.setdefault(f"blocks.{block[1]}.attn.qkv.{kind}", {})[block[2]] = name, value
        else:
            encoder[name] = value
    for ours, parts in thirds.items():
        shapes = {value.shape for _, value in parts.values()}
        fitting = len(parts) == 3 and len(shapes) == 1
        if fitting and all(v.ndim and v.is_floating_point() for _, v in parts.values()):
            encoder[ours] = torch.cat([parts[name][1].float() for name in _QKV])
        else:
            encoder |= dict(parts.values())
    return encoder, head


def _older(name: str) -> str:
    """The name in files for a name that transformers 5 has in memory."""
    found = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if not found:
        return name
    return f"{_BLOCK}{found[1]}.{_NEWER.get(found[2], found[2])}.{found[3]}"


# Settings -----------------------------------------------------------------------------------------


def published(
    tensors: dict[str, Tensor],
    config: Mapping[str, Any],
    extractor: Mapping[str, Any] | None,
    source: str,
    hints: Hints = Hints(),
) -> Published:
    """Weights, `config.json` and `preprocessor_config.json` of a folder -> ours.

    Raises:
        UserError: settings that no AST here has, or that contradict each other or the weights.
    """
    read = _Reader(config, f"{source}/config.json")
    if hints.pool == "mean" or hints.stride:
        raise UserError(f"--pool, --stride: {source} says itself what these are")
    patch, bins = read.count("patch_size", 16), read.count("num_mel_bins", 128)
    frames = read.count("max_length", 1024)
    stride = read.count("frequency_stride", 10), read.count("time_stride", 10)
    if frames < patch or bins < patch:
        raise UserError(f"{source}: {frames} frames of {bins} bins hold no patch of {patch}")
    rows, columns = (bins - patch) // stride[0] + 1, (frames - patch) // stride[1] + 1
    grid = fit(rows * columns, (patch, patch), stride, bins)
    assert grid is not None
    front, notes = _front(extractor, grid, frames, bins, source, hints)
    encoder, head = from_transformers(tensors)
    depth, dim = read.count("num_hidden_layers", 12), read.count("hidden_size", 768)
    read.only("hidden_act", "gelu")
    made = AstConfig(
        dim=dim,
        depth=depth,
        heads=read.count("num_attention_heads", 12),
        mlp_ratio=read.count("intermediate_size", 3072) / dim,
        patch=(patch, patch),
        stride=stride,
        table=grid.grid,
        table_stride=stride,
        norm_eps=read.number("layer_norm_eps", 1e-12),
        front=front,
    )
    if not read.flag("qkv_bias", True):
        blocks = {name.split(".")[1] for name in encoder if name.startswith("blocks.")}
        encoder |= {f"blocks.{i}.attn.qkv.bias": torch.zeros(3 * dim) for i in blocks}
    ours = None
    if head:
        ours = _head(head, made, config, source, hints)
    kind = f"{MODEL_TYPE} of transformers"
    return Published(kind, source, made, frames, encoder, ours, notes=tuple(notes))


def _front(
    extractor: Mapping[str, Any] | None,
    grid: Fit,
    frames: int,
    bins: int,
    source: str,
    hints: Hints,
) -> tuple[FbankConfig, list[str]]:
    if extractor is None:
        note = "no preprocessor_config.json: AudioSet's normalisation is taken"
        return front_end(bins, hints), [] if hints.statistics else [note]
    read = _Reader(extractor, f"{source}/preprocessor_config.json")
    read.only("feature_extractor_type", "ASTFeatureExtractor")
    length, mels = read.count("max_length", 1024), read.count("num_mel_bins", 128)
    if mels != bins or not grid.shortest <= length <= grid.longest:
        raise UserError(
            f"{source}: preprocessor_config.json gives {length} frames of {mels} bins, config.json "
            f"takes {frames} of {bins}"
        )
    mean, std = read.number("mean", -4.2677393), read.number("std", 4.5689974)
    if hints.statistics:
        raise UserError(f"--statistics: {source} says itself what they are")
    if not read.flag("do_normalize", True):
        mean, std = 0.0, 0.5
    rate = read.count("sampling_rate", 16000)
    return FbankConfig(sample_rate=rate, n_mels=mels, mean=mean, std=std), []


def _head(
    head: dict[str, Tensor],
    made: AstConfig,
    config: Mapping[str, Any],
    source: str,
    hints: Hints,
) -> PublishedHead:
    weight = head.get("1.weight")
    if weight is None or weight.ndim != 2 or not len(weight):
        raise UserError(f"{source}: classifier.dense.weight is missing or no matrix")
    problem = config.get("problem_type")
    if problem not in (None, "single_label_classification", "multi_label_classification"):
        raise UserError(f"{source}: problem_type {brief(repr(problem))} is no classification")
    # As transformers' pipelines have it: softmax unless told otherwise, or with a single output.
    single = problem != "multi_label_classification" and len(weight) > 1
    if hints.task is not None:
        single = hints.task == "single"
    names = hints
    if hints.classes is None and config.get("id2label") is not None:
        labels = _labels(config["id2label"], len(weight), source)
        names = Hints(classes=labels)
    classes = class_names(names, len(weight), source)
    return PublishedHead(head, made.norm_eps, classes, "cls", single)


def _labels(labels: Any, count: int, source: str) -> tuple[str, ...]:
    """`id2label`, a mapping from number to name, in order."""
    wanted = {str(number) for number in range(count)}
    if not isinstance(labels, Mapping) or {str(key) for key in labels} != wanted:
        raise UserError(f"{source}: id2label in config.json does not name its {count} outputs")
    by_number = {str(key): str(value) for key, value in labels.items()}
    return tuple(by_number[str(number)] for number in range(count))


class _Reader:
    """Values of a JSON mapping, checked.

    Args:
        values: the mapping.
        source: its file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values, self.source = values, source

    def count(self, name: str, default: int) -> int:
        """A whole number from 1 to 2^24."""
        value = self.values.get(name, default)
        if type(value) is not int or not 1 <= value <= 2**24:
            raise UserError(f"{self.source}: {name} should be a count; got {brief(repr(value))}")
        return value

    def number(self, name: str, default: float) -> float:
        """A number; the dataclass that takes it checks its range."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
            raise UserError(f"{self.source}: {name} should be a number; got {brief(repr(value))}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise UserError(
                f"{self.source}: {name} should be true or false; got {brief(repr(value))}"
            )
        return value

    def only(self, name: str, known: str) -> None:
        """Refuse any other value than the one that is built here; absent is that one."""
        value = self.values.get(name, known)
        if value != known:
            found = brief(repr(value))
            raise UserError(f"{self.source}: {name} {found} is not built here, only {known!r}")


def settings_of(config: AstConfig, frames: int) -> dict[str, Any]:
    """`config.json` of an encoder, without classes."""
    return {
        "model_type": MODEL_TYPE,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": round(config.dim * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": config.norm_eps,
        "patch_size": config.patch[0],
        "qkv_bias": True,
        "frequency_stride": config.stride[0],
        "time_stride": config.stride[1],
        "max_length": frames,
        "num_mel_bins": config.front.n_mels,
        "dtype": "float32",
    }


def extractor_of(front: FbankConfig, frames: int) -> dict[str, Any]:
    """`preprocessor_config.json` of a front end."""
    return {
        "feature_extractor_type": "ASTFeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "max_length": frames,
        "mean": front.mean,
        "std": front.std,
        "num_mel_bins": front.n_mels,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": front.sample_rate,
    }
