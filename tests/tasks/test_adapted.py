"""Few weights beside a frozen encoder: trained, saved alone, put together again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.adaptation.petl import METHODS, PetlConfig, merge
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder, load_encoder, save_encoder
from sonoformer.errors import UserError
from sonoformer.run import Run
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune
from sonoformer.tasks.model import load_model
from sonoformer.training.config import OptimiserConfig, TrainConfig

Make = Callable[..., FinetuneConfig]
MakeSet = Callable[..., Manifest]
Start = Callable[..., Run]
Train = Callable[..., Path]
SMALL = PetlConfig(rank=2, kernel=3, learned=3, experts=2)
FAST = ("lora", "conformer", "prompt")
LABELS = ["low", "high"] * 6


@pytest.fixture
def base(encoder: AstEncoder, tmp_path: Path) -> Path:
    return save_encoder(encoder, tmp_path / "base", "card")


@pytest.fixture
def train(make_set: MakeSet, config: Make, start: Start, tmp_path: Path) -> Train:
    """Train on tones; the model's folder."""
    manifest = make_set(LABELS)

    def made(init: Path | nn.Module | None, name: str = "run", **options: object) -> Path:
        settings = config(**({"epochs": 2, "petl": SMALL} | options))
        with start(settings, name) as run:
            finetune(manifest, init, settings, run, device="cpu", bar=False)
        return tmp_path / name / "model"

    return made


def heard(samples: int = 3200) -> Tensor:
    return 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "method",
    [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in METHODS],
)
def test_only_what_was_trained_is_saved_and_comes_back(
    base: Path, train: Train, method: str
) -> None:
    folder = train(base, method=method, epochs=1)
    tensors = load_file(folder / "model.safetensors")
    whole = load_encoder(base).state_dict()
    same = {n for n, v in tensors.items() if torch.equal(whole.get(n[8:], torch.empty(0)), v)}
    assert not same
    assert sum(v.numel() for v in tensors.values()) < sum(v.numel() for v in whole.values())
    model = load_model(folder)
    state = model.encoder.state_dict()
    assert all(torch.equal(state[n], v) for n, v in whole.items() if f"encoder.{n}" not in tensors)
    assert all(torch.equal(state[n[8:]], v) for n, v in tensors.items() if n.startswith("enc"))
    # What comes back is saved as it came.
    again = model.save(folder.parent / "again")
    assert load_file(again / "model.safetensors").keys() == tensors.keys()
    scores = model.predict_waveforms(heard())
    torch.testing.assert_close(load_model(again).predict_waveforms(heard()), scores)


def test_it_learns(base: Path, train: Train) -> None:
    folder = train(base, method="lora", epochs=20)
    figures = json.loads((folder.parent / "metrics.json").read_text(encoding="utf-8"))
    assert figures["test"]["figures"]["accuracy"]["value"] == 1.0


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({}, 3e-4),
        ({"adaptation": AdaptationConfig(weights="head")}, 1e-3),
        ({"method": "lora"}, 5e-3),
        ({"method": "prefix"}, 1e-2),
    ],
)
def test_each_method_has_a_rate_of_its_own(options: dict, rate: float) -> None:
    config = FinetuneConfig(**options)
    assert config.with_rate().train.optimiser.peak == rate
    chosen = replace(config.train, optimiser=OptimiserConfig(lr=0.02))
    assert replace(config, train=chosen).with_rate().train.optimiser.peak == 0.02


@pytest.mark.parametrize(
    ("head", "options", "rate"),
    [
        ("norm_linear", {}, 3e-4),
        ("norm_linear", {"method": "lora"}, 5e-3),
        ("probe", {}, 3e-5),
        ("probe", {"method": "lora"}, 3e-5),
        ("probe", {"train": TrainConfig(optimiser=OptimiserConfig(lr=1e-5))}, 1e-5),
        ("probe", {"adaptation": AdaptationConfig(head_multiplier=2.0)}, 6e-4),
    ],
)
def test_a_head_that_knows_already_learns_slowly(head: str, options: dict, rate: float) -> None:
    config = FinetuneConfig(classifier=ClassifierConfig(head=head), **options).with_rate()  # type: ignore[arg-type]
    multiplier = config.adaptation.head_multiplier
    assert multiplier is not None
    assert multiplier * config.train.optimiser.peak == pytest.approx(rate)
    assert config.with_rate() == config


def test_a_merged_one_is_saved_whole(base: Path, train: Train, tmp_path: Path) -> None:
    model = load_model(train(base, method="lora"))
    scores = model.predict_waveforms(heard())
    merge(model.encoder)
    whole = load_model(model.save(tmp_path / "whole"))
    torch.testing.assert_close(whole.predict_waveforms(heard()), scores, rtol=0, atol=1e-5)
    base.rename(tmp_path / "away")
    load_encoder(tmp_path / "whole")


def test_several_share_one_base(base: Path, train: Train) -> None:
    one, other = train(base, "one", method="lora"), train(base, "other", method="houlsby")
    encoder = load_encoder(base)
    models = [load_model(folder, base=encoder) for folder in (one, other)]
    for model, folder in zip(models, (one, other), strict=True):
        shared = model.encoder.get_parameter("patch_embed.proj.weight")
        assert shared is encoder.get_parameter("patch_embed.proj.weight")
        alone = load_model(folder).predict_waveforms(heard())
        torch.testing.assert_close(model.predict_waveforms(heard()), alone)


def test_longer_clips_bring_their_positions(base: Path, train: Train) -> None:
    folder = train(base, method="lora", seconds=2.0)
    assert "encoder.pos_embed" in load_file(folder / "model.safetensors")
    load_model(folder).predict_waveforms(heard(16000))


def test_another_base_is_refused(
    base: Path, train: Train, encoder: AstEncoder, tmp_path: Path
) -> None:
    folder = train(base, method="lora")
    with torch.no_grad():
        encoder.cls_token.add_(1.0)
    other = save_encoder(encoder, tmp_path / "other", "card")
    with pytest.raises(UserError, match=r"trained on other weights than those of .*other"):
        load_model(folder, base=other)
    with pytest.raises(UserError, match="those of the given base"):
        load_model(folder, base=encoder)
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="needs the encoder it was trained on"):
        load_model(folder)
    load_model(folder, base=tmp_path / "moved")
    with pytest.raises(UserError, match="holds what was trained beside an encoder"):
        load_encoder(folder)


def test_a_module_as_base_has_to_be_given_again(encoder: AstEncoder, train: Train) -> None:
    folder = train(encoder, method="lora")
    with pytest.raises(UserError, match="give it as base"):
        load_model(folder)
    load_model(folder, base=encoder)


def test_what_cannot_be_adapted(base: Path, train: Train, config: Make) -> None:
    with pytest.raises(UserError, match="name one by --init"):
        train(None, method="lora")
    whole = train(base, "whole")
    with pytest.raises(UserError, match="needs no other"):
        load_model(whole, base=base)
    from sonoformer.adaptation.parameters import AdaptationConfig

    with pytest.raises(UserError, match="weights: head says what trains"):
        config(method="lora", adaptation=AdaptationConfig(weights="head"))
    text = (train(base, "broken", method="lora") / "config.json").read_text(encoding="utf-8")
    folder = base.parent / "broken" / "model"
    (folder / "config.json").write_text(text.replace('"lora"', '"magic"'), encoding="utf-8")
    with pytest.raises(UserError, match="should name a method and a base"):
        load_model(folder)
