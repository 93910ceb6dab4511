"""Going on from a published SSAST file or from our own checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sonoformer.encoders import AstEncoder, ast_config, save_encoder
from sonoformer.errors import UserError
from sonoformer.pretraining import Mspm, MspmConfig
from sonoformer.pretraining.pretrain import PretrainConfig, _learner
from sonoformer.pretraining.starting import starting_point

SAMPLES = 16400


def published(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """A file as the authors save it: one block, 64 wide, the dead ImageNet heads included."""
    torch.manual_seed(3)
    encoder = AstEncoder(ast_config(dim=64, heads=1, depth=1))
    tensors = {f"v.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {"v.head.weight": torch.zeros(1000, 64), "v.head.bias": torch.zeros(1000)}
    tensors |= {"p_input_fdim": torch.tensor(128), "p_input_tdim": torch.tensor(1024)}
    for name in ("cpredlayer", "gpredlayer"):
        tensors |= {f"{name}.0.weight": torch.randn(64, 64), f"{name}.0.bias": torch.randn(64)}
        tensors |= {f"{name}.2.weight": torch.randn(256, 64), f"{name}.2.bias": torch.randn(256)}
    tensors["mask_embed"] = torch.randn(1, 1, 64)
    path = folder / "SSAST.pth"
    torch.save({f"module.{name}": value for name, value in tensors.items()}, path)
    return path, tensors


@pytest.mark.parametrize("loss", ["joint", "generative"])
def test_published_weights_and_heads_go_on(tmp_path: Path, loss: str) -> None:
    path, tensors = published(tmp_path)
    encoder, _, _ = starting_point(path)
    config = PretrainConfig(mspm=MspmConfig(loss=loss))
    learner = _learner(encoder, config, SAMPLES, 0, path)
    assert torch.equal(learner.mask_token, tensors["mask_embed"].flatten())
    assert torch.equal(learner.reconstruct[2].weight, tensors["gpredlayer.2.weight"])
    assert torch.equal(learner.encoder.norm.bias, tensors["v.norm.bias"])
    if loss == "joint":
        assert torch.equal(learner.classify[0].bias, tensors["cpredlayer.0.bias"])
    else:
        assert not hasattr(learner, "classify")


def test_our_own_checkpoint_goes_on(tmp_path: Path) -> None:
    learner = Mspm(AstEncoder(ast_config("micro", depth=1)), MspmConfig(), SAMPLES)
    own = {
        f"objective.{name}": value
        for name, value in learner.state_dict().items()
        if not name.startswith("encoder.")
    }
    save_encoder(learner.encoder, tmp_path / "model", "card", tensors=own)
    encoder, found, _ = starting_point(tmp_path / "model")
    assert set(found) == {name.removeprefix("objective.") for name in own}
    again = _learner(encoder, PretrainConfig(), SAMPLES, 1, tmp_path / "model")
    for name, value in learner.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_a_head_of_another_shape_is_a_sentence(tmp_path: Path) -> None:
    path, _ = published(tmp_path)
    config = PretrainConfig(mspm=MspmConfig(head="linear"))
    with pytest.raises(UserError, match=r"classify"):
        _learner(starting_point(path)[0], config, SAMPLES, 0, path)
