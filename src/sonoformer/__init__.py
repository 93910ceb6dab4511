"""Sonoformer: learn from unlabelled sound with spectrogram transformers.

>>> import sonoformer as sf
>>> encoder = sf.load_encoder("runs/pretrain")      # waveform -> tokens
>>> model = sf.load_model("runs/frogs")             # front end, encoder and head
>>> table = model.predict("recordings/")            # a data frame, one row a window

Names are loaded on first use, so that importing the package is quick and works without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AudioError": "sonoformer.errors",
    "Manifest": "sonoformer.data.manifest",
    "Model": "sonoformer.tasks.model",
    "Tokens": "sonoformer.nn.tokens",
    "UserError": "sonoformer.errors",
    "load_encoder": "sonoformer.encoders",
    "load_model": "sonoformer.tasks.model",
    "probe": "sonoformer.audio",
    "read": "sonoformer.audio",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sonoformer' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
