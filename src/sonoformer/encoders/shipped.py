"""Encoders that come with the package, by name: small, pretrained, and there without a network."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "shipped"


def shipped() -> dict[str, Path]:
    """Name -> checkpoint folder (weights in half precision, configuration, model card)."""
    if not _FOLDER.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(_FOLDER.iterdir()) if folder.is_dir()}
