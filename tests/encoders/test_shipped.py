"""Encoders that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sonoformer.encoders import AstEncoder, ast_config, load_encoder, save_encoder, shipped
from sonoformer.errors import UserError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped encoders with one in it."""
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path / "shelf")
    encoder = AstEncoder(ast_config("micro", depth=1))
    save_encoder(encoder, tmp_path / "shelf" / "small-one", "card")
    return tmp_path


def test_a_name_is_enough(shelf: Path) -> None:
    assert list(shipped.shipped()) == ["small-one"]
    assert load_encoder("small-one").depth == 1


def test_a_folder_of_that_name_comes_first(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf)
    save_encoder(AstEncoder(ast_config("micro", depth=2)), "small-one", "card")
    assert load_encoder("small-one").depth == 2


def test_near_names_are_suggested(shelf: Path) -> None:
    with pytest.raises(UserError, match=r"small-one\..*Did you mean 'small-one'"):
        load_encoder("smal-one")


@pytest.mark.parametrize("name", list(shipped.shipped()))
def test_every_shipped_encoder_hears(name: str) -> None:
    encoder = load_encoder(name)
    wave = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([32000, 20000])
    with torch.inference_mode():
        both = encoder(wave, lengths).pool("mean")
        alone = encoder(wave[1:, :20000]).pool("mean")
    assert both.isfinite().all()
    assert (both[1] - alone[0]).abs().max() < 1e-4
    card = (shipped.shipped()[name] / "README.md").read_text(encoding="utf-8")
    assert "licence" in card.lower()
