"""Which published checkpoint a path holds, and reading it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sonoformer.encoders import ast_transformers
from sonoformer.encoders.ast_keys import from_authors
from sonoformer.encoders.published import Hints, Published
from sonoformer.encoders.ssamba_keys import from_ssamba, is_ssamba
from sonoformer.errors import UserError, brief
from sonoformer.files import read_json
from sonoformer.weights import read_foreign

WEIGHTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
_EXTRACTOR = "preprocessor_config.json"
_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weights of a transformers folder, the one that it prefers first; large ones are split into parts
that `<file>.index.json` lists."""
_PART = re.compile(r"[\w.-]{1,200}\.(safetensors|bin)")


def is_published(path: str | Path) -> bool:
    """Whether the path is a weights file, or a folder of transformers, rather than one of ours."""
    path = Path(path)
    if not path.is_dir():
        return path.suffix.lower() in WEIGHTS
    config = path / "config.json"
    if not config.is_file():
        # A folder of weights alone is somebody's checkpoint too; reading it says what is missing.
        return any((path / name).is_file() for name in _FILES)
    try:
        values = read_json(config)
    except UserError:
        return False
    return isinstance(values, dict) and "format" not in values and _seems_theirs(values)


def _seems_theirs(values: dict[str, Any]) -> bool:
    return any(name in values for name in ("model_type", "architectures", "transformers_version"))


def read_published(path: str | Path, hints: Hints = Hints()) -> Published:
    """The published checkpoint at a path.

    Args:
        path: a weights file of an AST, SSAST or SSAMBA program, or a folder of transformers.
        hints: what the file does not say.

    Raises:
        UserError: it cannot be read, or is none of these, or does not say enough; see
            `from_authors`, `from_ssamba` and `ast_transformers.published`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _folder(path, hints)
        foreign = read_foreign(path)
        read = from_ssamba if is_ssamba(foreign.tensors) else from_authors
        found = read(foreign.tensors, str(path), hints)
        return _noted(found, foreign.left_out)
    except UserError as error:
        # Checks of a configuration name the option; here a file is what is wrong.
        if str(path) in str(error) or str(error).startswith(("--", "classes:")):
            raise
        raise UserError(f"{path}: {error}") from None


def _folder(path: Path, hints: Hints) -> Published:
    config = _mapping(path / "config.json")
    kind = config.get("model_type")
    if kind != ast_transformers.MODEL_TYPE:
        raise UserError(
            f"{path}: holds a model of type {brief(repr(kind))}, not "
            f"{ast_transformers.MODEL_TYPE!r}"
        )
    extractor = _mapping(path / _EXTRACTOR) if (path / _EXTRACTOR).is_file() else None
    tensors, left_out = _weights(path)
    found = ast_transformers.published(tensors, config, extractor, str(path), hints)
    return _noted(found, left_out)


def _weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    for name in _FILES:
        if (path / name).is_file():
            return read_foreign(path / name)
        if (index := path / f"{name}.index.json").is_file():
            return _parts(path, index), ()
    raise UserError(f"{path}: holds no weights ({' or '.join(_FILES)})")


def _parts(path: Path, index: Path) -> dict[str, Tensor]:
    """The weights of all the files that an index lists."""
    places = _mapping(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: weight_map should name the file of each tensor")
    tensors: dict[str, Tensor] = {}
    for name in sorted({str(place) for place in places.values()}):
        if not _PART.fullmatch(name):
            raise UserError(f"{index}: {brief(repr(name))} is no file of this folder")
        tensors |= read_foreign(path / name).tensors
    missing = [name for name in places if name not in tensors]
    if missing:
        raise UserError(
            f"{index}: lists tensors that its files do not hold: {brief(missing[0])}, ..."
        )
    return tensors


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: is missing; copy the whole folder")
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: should hold a mapping")
    return values


def _noted(found: Published, left_out: tuple[str, ...]) -> Published:
    if not left_out:
        return found
    names = ", ".join(left_out[:6]) + (" ..." if len(left_out) > 6 else "")
    return replace(found, notes=(*found.notes, f"left out, being no weights: {names}"))
