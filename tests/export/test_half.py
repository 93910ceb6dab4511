"""A model in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sonoformer.encoders import AstEncoder, ast_config, load_encoder, save_encoder
from sonoformer.errors import UserError
from sonoformer.export import to_half
from sonoformer.weights import load_checkpoint


def checkpoint(folder: Path) -> AstEncoder:
    torch.manual_seed(0)
    encoder = AstEncoder(ast_config("micro", depth=2)).eval()
    own = {"objective.mask_token": torch.ones(128)}
    extra = {"objective": {"name": "mspm", "config": {}}, "heard": {"sets": []}}
    save_encoder(encoder, folder, "what it heard", extra=extra, tensors=own)
    return encoder


def test_half_the_size_and_nearly_the_same_tokens(tmp_path: Path) -> None:
    encoder = checkpoint(tmp_path / "whole")
    written, difference = to_half(tmp_path / "whole", tmp_path / "half")
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.52 * sizes[0]
    tensors, config = load_checkpoint(written)
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert not any(name.startswith("objective.") for name in tensors)
    assert config["objective"] == {"name": "mspm"}
    assert config["heard"] == {"sets": []}
    assert (written / "README.md").read_text() == "what it heard"
    loaded = load_encoder(written)
    assert loaded.pos_embed.dtype == torch.float32
    wave = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        apart = float((loaded(wave).x - encoder(wave).x).abs().max())
    assert apart == pytest.approx(difference)
    assert 0 < difference < 0.02


def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    encoder = checkpoint(tmp_path / "whole")
    with torch.no_grad():
        encoder.norm.bias[0] = 1e5
    save_encoder(encoder, tmp_path / "whole", "card")
    with pytest.raises(UserError, match=r"norm\.bias.*65504"):
        to_half(tmp_path / "whole", tmp_path / "half")
    assert not (tmp_path / "half").exists()
