"""Checkpoint folders and foreign state dictionaries: safe reading, atomic writing, no models."""

from sonoformer.weights.assign import assign
from sonoformer.weights.folder import is_checkpoint, load_checkpoint, save_checkpoint
from sonoformer.weights.foreign import Foreign, read_foreign
from sonoformer.weights.identity import identity

__all__ = [
    "Foreign",
    "assign",
    "identity",
    "is_checkpoint",
    "load_checkpoint",
    "read_foreign",
    "save_checkpoint",
]
