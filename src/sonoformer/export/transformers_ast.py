"""A model as a folder that transformers reads as its AST, and what that format cannot hold."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from sonoformer.adaptation.petl import merge
from sonoformer.encoders import (
    AstEncoder,
    PatchEncoder,
    Published,
    ast_transformers,
    read_published,
)
from sonoformer.encoders.ast_grid import fit
from sonoformer.errors import UserError
from sonoformer.files import atomic, read_json, write_json, write_text
from sonoformer.nn.computing import evaluating
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model, published_model
from sonoformer.weights.folder import replacing

_FREE = ("sample_rate", "n_mels", "mean", "std", "padding", "fixed_frames")
"""Settings of the front end that transformers' feature extractor has too, or that say how a clip
becomes its number of frames."""


@dataclass(frozen=True)
class Export:
    """A folder that was written, read back and compared.

    Attributes:
        folder: where.
        frames: length of its clips.
        difference: largest difference of logits (of tokens, without a head) between the model and
            what was written, on two clips of noise of that length.
        notes: where clips or figures are treated otherwise than here.
    """

    folder: Path
    frames: int
    difference: float
    notes: tuple[str, ...]


def to_transformers(
    model: Model | PatchEncoder, folder: str | Path, frames: int | None = None, card: str = ""
) -> Export:
    """Write `config.json`, `model.safetensors` and `preprocessor_config.json`.

    Args:
        model: a classifier, or an encoder alone (transformers' `ASTModel`).
        folder: where; an earlier export there is replaced.
        frames: frames of the clips that the written model takes; those that the model itself is
            fixed to if absent.
        card: text of its README.

    Raises:
        UserError: the format cannot hold the model (every reason is named), or the folder holds
            other files.
    """
    encoder = cast(PatchEncoder, model.encoder) if isinstance(model, Model) else model
    if getattr(encoder, "adapted", None) is not None:
        # The format has ordinary layers only.
        model = copy.deepcopy(model)
        encoder = cast(PatchEncoder, model.encoder) if isinstance(model, Model) else model
        merge(encoder)
    if not isinstance(encoder, AstEncoder):
        raise UserError(
            "transformers' AST cannot hold this model: its encoder is no AST; `--to onnx` takes it"
        )
    head = model.config if isinstance(model, Model) else None
    fixed = encoder.config.front.fixed_frames
    frames = frames or fixed
    reasons = obstacles(encoder, head)
    if frames is None:
        reasons.append(
            "the model takes clips of any length and the format one length only: give --frames, "
            "such as 1024 for 10.24 s"
        )
    elif fixed not in (None, frames):
        reasons.append(f"--frames {frames}: the model is fixed to clips of {fixed} frames")
    if reasons:
        raise UserError(f"transformers' AST cannot hold this model: {'; '.join(reasons)}")
    assert frames is not None
    tensors = _tensors(encoder, model if isinstance(model, Model) else None, frames)
    with replacing(folder, _is_export, "an exported model") as fresh:
        with atomic(fresh / "model.safetensors") as file:
            save_file(tensors, file, {"format": "pt"})
        write_json(fresh / "config.json", _settings(model, encoder, frames))
        extractor = ast_transformers.extractor_of(encoder.config.front, frames)
        write_json(fresh / "preprocessor_config.json", extractor)
        write_text(fresh / "README.md", card)
    difference = _difference(model, read_published(folder), frames)
    return Export(Path(folder), frames, difference, _notes(encoder, head))


def obstacles(encoder: AstEncoder, head: HeadConfig | None) -> list[str]:
    """Why transformers' AST cannot hold a model, each with what to do instead; empty if it can."""
    config, front = encoder.config, encoder.config.front
    found = []
    if config.patch[0] != config.patch[1]:
        found.append(
            f"its patches are {config.patch[0]} x {config.patch[1]}, and only square ones exist "
            "there: use this package's predict and embed, or train with --tokens patch"
        )
    if config.prefix != 2:
        found.append("it has no dist token, which the format needs: pretrain a model with both")
    if head is not None and (head.kind != "norm_linear" or head.layers is not None):
        found.append("its head is no norm and linear layer on the last tokens: train one that is")
    elif head is not None and head.pool != "cls":
        found.append(
            f"its head pools {head.pool!r}, and only the mean of cls and dist exists there: train "
            "with --pool cls"
        )
    plain = FbankConfig()
    odd = [
        name
        for name in plain.__dataclass_fields__
        if name not in _FREE and getattr(front, name) != getattr(plain, name)
    ]
    if odd:
        found.append(
            f"its front end's {', '.join(odd)} are not those of ASTFeatureExtractor: train with "
            "the defaults"
        )
    if front.fixed_frames is not None and front.padding != "reference":
        found.append(
            "it pads clips with the mean, and ASTFeatureExtractor with zeros before normalisation: "
            "train with --padding reference"
        )
    return found


def _notes(encoder: AstEncoder, head: HeadConfig | None) -> tuple[str, ...]:
    notes = []
    if encoder.config.front.fixed_frames is None:
        notes.append(
            "clips shorter than that are padded there, and the padding is taken for sound; here it "
            "is left out"
        )
    if head is not None and head.norm_eps != encoder.config.norm_eps:
        notes.append(
            f"one epsilon serves all norms there: the head's {head.norm_eps:g} becomes "
            f"{encoder.config.norm_eps:g}"
        )
    return tuple(notes)


def _tensors(encoder: AstEncoder, model: Model | None, frames: int) -> dict[str, Tensor]:
    """The weights under transformers' names, with positions for clips of `frames` frames."""
    config = encoder.config
    own = {name: value.detach().cpu() for name, value in encoder.state_dict().items()}
    grid = (
        (config.front.n_mels - config.patch[0]) // config.stride[0] + 1,
        (frames - config.patch[1]) // config.stride[1] + 1,
    )
    if fit(grid[0] * grid[1], config.patch, config.stride, config.front.n_mels) is None:
        raise UserError(f"--frames {frames}: is less than a patch of {config.patch[1]}")
    with torch.no_grad():
        table = encoder.position_table(grid).cpu()
    prefix = own["pos_embed"][:, : config.prefix]
    own["pos_embed"] = torch.cat([prefix, table.unsqueeze(0)], 1)
    head = {} if model is None else {
        name.removeprefix("network."): value.detach().cpu()
        for name, value in model.head.state_dict().items()
    }  # fmt: skip
    named = ast_transformers.to_transformers(own, head)
    return {name: value.contiguous().clone() for name, value in named.items()}


def _settings(model: Model | PatchEncoder, encoder: AstEncoder, frames: int) -> dict[str, object]:
    settings = ast_transformers.settings_of(encoder.config, frames)
    if not isinstance(model, Model):
        return {"architectures": ["ASTModel"], **settings}
    problem = "single_label_classification" if model.softmax else "multi_label_classification"
    return {
        "architectures": ["ASTForAudioClassification"],
        **settings,
        "problem_type": problem,
        "id2label": {str(number): name for number, name in enumerate(model.classes)},
        "label2id": {name: number for number, name in enumerate(model.classes)},
    }


@torch.inference_mode()
def _difference(model: Model | PatchEncoder, written: Published, frames: int) -> float:
    """Largest difference on noise between a model and what is read back."""
    generator = torch.Generator().manual_seed(0)
    bins = written.config.front.n_mels
    noise = 0.5 * torch.randn(2, frames, bins, generator=generator)
    back = published_model(written) if isinstance(model, Model) else written.make_encoder()
    device = next(model.parameters()).device
    with evaluating(model):
        here = _outputs(model, noise.to(device)).cpu()
    return float((here - _outputs(back, noise)).abs().max())


def _outputs(model: Model | PatchEncoder, spectrograms: Tensor) -> Tensor:
    return model.logits(spectrograms) if isinstance(model, Model) else model(spectrograms).x


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an AST of transformers, which another one may replace."""
    try:
        values = read_json(folder / "config.json")
    except UserError:
        return False
    return isinstance(values, dict) and values.get("model_type") == ast_transformers.MODEL_TYPE
