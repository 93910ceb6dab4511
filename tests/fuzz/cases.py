"""Small valid checkpoints of every kind that is read, to be damaged."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sonoformer.encoders import ast_transformers
from sonoformer.encoders.ast import AstConfig, AstEncoder
from sonoformer.pretraining.mspm import MspmConfig
from sonoformer.settings import plain
from sonoformer.tasks.heads import HeadConfig, build_head

DIM, HIDDEN, CLASSES = 64, 64, 3
CONFIG = AstConfig(dim=DIM, depth=1, heads=1, mlp_ratio=HIDDEN / DIM, table=(8, 2))
KNOWN = {"pool": "mean", "task": "single", "statistics": "esc50"}


@dataclass
class Case:
    """A checkpoint before it is written.

    Attributes:
        kind: what it is.
        tensors: name -> tensor.
        container: how tensors are written; `parts` is safetensors in two files with an index.
        content: what torch.save gets, from the tensors.
        configs: JSON files of its folder; a weights file alone if there are none.
        hints: what reading it takes.
    """

    kind: str
    tensors: dict[str, Any]
    container: str
    content: Callable[[dict[str, Any]], Any] = field(default=lambda tensors: tensors)
    configs: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, Any] = field(default_factory=dict)

    @property
    def pickled(self) -> bool:
        return self.container in ("zip", "legacy")

    def write(self, folder: Path) -> Path:
        """Write it; the path to read."""
        folder.mkdir(parents=True)
        suffix = "pth" if self.pickled else "safetensors"
        path = folder / f"weights.{suffix}"
        if self.configs:
            path = folder / ("pytorch_model.bin" if self.pickled else "model.safetensors")
            for name, values in self.configs.items():
                (folder / name).write_text(json.dumps(values))
        if self.pickled:
            new = self.container == "zip"
            torch.save(self.content(self.tensors), path, _use_new_zipfile_serialization=new)
        elif self.container == "parts":
            _write_parts(self.tensors, folder)
        else:
            save_file(_separate(self.tensors), path)
        return folder if self.configs else path


def _write_parts(tensors: dict[str, Tensor], folder: Path) -> None:
    names = sorted(tensors)
    places = {name: f"model-{1 + i % 2}-of-2.safetensors" for i, name in enumerate(names)}
    for part in set(places.values()):
        own = {name: tensors[name] for name in names if places[name] == part}
        save_file(_separate(own), folder / part)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    whole = {name: value.contiguous() for name, value in tensors.items()}
    return {name: value.clone() for name, value in whole.items()}


def _encoder() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(AstEncoder(CONFIG).state_dict())


def _head(prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}0.weight": torch.ones(DIM),
        f"{prefix}0.bias": torch.zeros(DIM),
        f"{prefix}1.weight": torch.full((CLASSES, DIM), 0.01),
        f"{prefix}1.bias": torch.zeros(CLASSES),
    }


def _pretrained(container: str) -> Case:
    own = {f"module.v.{name}": value for name, value in _encoder().items()}
    own |= {"module.p_input_fdim": torch.tensor(128), "module.p_input_tdim": torch.tensor(32)}
    own |= {"module.mask_embed": torch.zeros(1, 1, DIM)}
    for head in ("cpredlayer", "gpredlayer"):
        own |= {f"module.{head}.0.weight": torch.zeros(DIM, DIM)}
        own |= {f"module.{head}.0.bias": torch.zeros(DIM)}
        own |= {f"module.{head}.2.weight": torch.zeros(256, DIM)}
        own |= {f"module.{head}.2.bias": torch.zeros(256)}
    return Case("pretrained SSAST", own, container)


def _classifier(container: str) -> Case:
    own = {f"module.v.{name}": value for name, value in _encoder().items()}
    own |= {"module.v.head.weight": torch.zeros(2, DIM)} | _head("module.mlp_head.")
    return Case("classifier", own, container, hints=KNOWN)


def _image(container: str) -> Case:
    own = {name: value.clone() for name, value in _encoder().items()}
    own["patch_embed.proj.weight"] = torch.zeros(DIM, 3, 16, 16)
    own["pos_embed"] = torch.zeros(1, 2 + 4, DIM)
    return Case("DeiT", own, container, content=lambda tensors: {"model": tensors})


def _transformers(container: str) -> Case:
    head = {name.removeprefix("h."): value for name, value in _head("h.").items()}
    labels = {str(number): f"sound {number}" for number in range(CLASSES)}
    config = {**ast_transformers.settings_of(CONFIG, 32), "id2label": labels}
    configs = {
        "config.json": config,
        "preprocessor_config.json": ast_transformers.extractor_of(CONFIG.front, 32),
    }
    tensors = ast_transformers.to_transformers(_encoder(), head)
    return Case("transformers", tensors, container, configs=configs)


def _ours(container: str, *, objective: bool) -> Case:
    tensors = {f"encoder.{name}": value for name, value in _encoder().items()}
    config: dict[str, Any] = {"encoder": {"name": "ast", "config": plain(CONFIG)}, "format": 1}
    if objective:
        config["objective"] = {"name": "mspm", "config": plain(MspmConfig())}
        tensors |= {"objective.mask_token": torch.zeros(DIM)}
        return Case("our encoder", tensors, container, configs={"config.json": config})
    head = HeadConfig()
    network = build_head(AstEncoder(CONFIG), CLASSES, head).state_dict()
    tensors |= {f"head.{name}": value for name, value in network.items()}
    config |= {"head": plain(head), "classes": ["a", "b", "c"], "thresholds": [0.5, 0.1, 0.9]}
    return Case("our classifier", tensors, container, configs={"config.json": config})


_FILES = ("zip", "zip", "legacy", "safetensors")
_MAKERS: dict[str, tuple[Callable[[str], Case], tuple[str, ...]]] = {
    "pretrained": (_pretrained, _FILES),
    "classifier": (_classifier, _FILES),
    "image": (_image, _FILES),
    "transformers": (_transformers, ("zip", "safetensors", "parts", "parts")),
    "our classifier": (lambda container: _ours(container, objective=False), ("safetensors",)),
    "our encoder": (lambda container: _ours(container, objective=True), ("safetensors",)),
}
_MADE: dict[tuple[str, str], Case] = {}


def draw(rng: random.Random) -> Case:
    """A valid checkpoint that may be changed."""
    name = rng.choice(list(_MAKERS))
    maker, containers = _MAKERS[name]
    container = rng.choice(containers)
    if (name, container) not in _MADE:
        _MADE[name, container] = maker(container)
    case = copy.copy(_MADE[name, container])
    case.tensors, case.configs = dict(case.tensors), copy.deepcopy(case.configs)
    return case


def every() -> list[Case]:
    """One of each kind and container."""
    return [maker(box) for maker, boxes in _MAKERS.values() for box in sorted(set(boxes))]
