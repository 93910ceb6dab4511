"""Checkpoint folders and foreign state dictionaries: safe reading, atomic writing, no models."""

from sonoformer.weights.assign import assign
from sonoformer.weights.folder import is_checkpoint, load_checkpoint, save_checkpoint
from sonoformer.weights.foreign import read_foreign

__all__ = ["assign", "is_checkpoint", "load_checkpoint", "read_foreign", "save_checkpoint"]
