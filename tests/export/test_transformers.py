"""Our models in transformers, and back: weights, logits, hearing, and what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import sonoformer as sf
from sonoformer.adaptation.petl import PetlConfig, install
from sonoformer.encoders import AstEncoder, ast_config, load_encoder, with_config
from sonoformer.export import to_transformers
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model, load_model

SMALL = {"dim": 64, "depth": 2, "heads": 4}
CLASSES = ("owl", "rain", "wren")
REFERENCE = FbankConfig(padding="reference", fixed_frames=128)


def stock(folder: Path, kind: str = "ASTForAudioClassification") -> torch.nn.Module:
    """What transformers makes of a folder; every name must be known to it."""
    model, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """With weights far from their initial values, so that every one matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def ours(**config: object) -> Model:
    front = config.pop("front", REFERENCE)
    encoder = AstEncoder(ast_config("tiny", **SMALL, front=front, **config))
    return randomised(Model(encoder, CLASSES, HeadConfig(pool="cls", norm_eps=1e-6)))


@torch.inference_mode()
def test_round_trip_of_a_random_transformers_ast(tmp_path: Path) -> None:
    config = transformers.ASTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_length=100, num_labels=4, frequency_stride=12, time_stride=8,
    )  # fmt: skip
    theirs = randomised(transformers.ASTForAudioClassification(config))
    theirs.save_pretrained(tmp_path / "theirs")
    extractor = transformers.ASTFeatureExtractor(max_length=100, mean=-5.0, std=3.5)
    extractor.save_pretrained(tmp_path / "theirs")
    model = load_model(tmp_path / "theirs")
    done = to_transformers(model, tmp_path / "back")
    assert (done.notes, done.frames) == ((), 100)
    assert done.difference < 1e-6  # rounding: kernels depend on where in memory weights lie
    back = stock(tmp_path / "back")
    one, other = theirs.state_dict(), back.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    spec = torch.randn(2, 100, 128)
    assert (theirs(spec).logits - back(spec).logits).abs().max() < 1e-6
    assert (model.logits(spec) - theirs(spec).logits).abs().max() < 5e-6
    again = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "back")
    assert (again.mean, again.std, again.max_length) == (-5.0, 3.5, 100)
    assert back.config.id2label == theirs.config.id2label


@torch.inference_mode()
@pytest.mark.parametrize("samples", [5000, 20720, 30000])
def test_waveforms_give_the_same_logits_in_transformers(samples: int, tmp_path: Path) -> None:
    """Through its feature extractor: clips that are shorter, as long, and longer."""
    model = ours(stride=(10, 10), table=(12, 12), table_stride=(10, 10))
    done = to_transformers(model, tmp_path / "out", card="# A card\n")
    assert done.difference < 1e-6
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "out")
    wave = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    spec = extractor(wave, sampling_rate=16000, return_tensors="pt").input_values
    theirs = stock(tmp_path / "out")
    heard = model.logits(torch.from_numpy(wave)[None])
    # The two filterbanks differ by rounding, which a random network magnifies.
    assert (theirs(spec).logits - heard).abs().max() < 2e-4
    exact = theirs(model.encoder.front(torch.from_numpy(wave)[None])[0]).logits
    assert (exact - heard).abs().max() < 5e-6
    assert list(theirs.config.id2label.values()) == list(CLASSES)
    assert theirs.config.problem_type == "single_label_classification"
    assert (tmp_path / "out" / "README.md").read_text() == "# A card\n"


@torch.inference_mode()
def test_a_model_of_any_length_is_written_for_one(tmp_path: Path) -> None:
    """Positions are those of that length; the table was learned at another stride."""
    model = ours(front=FbankConfig(), stride=(10, 10))
    with pytest.raises(sf.UserError, match=r"clips of any length .*give --frames"):
        to_transformers(model, tmp_path / "out")
    done = to_transformers(model, tmp_path / "out", frames=200)
    assert "clips shorter than that are padded" in done.notes[0]
    spec = torch.randn(2, 200, 128)
    assert (stock(tmp_path / "out")(spec).logits - model.logits(spec)).abs().max() < 5e-6


@torch.inference_mode()
def test_the_epsilons_that_differ_are_said_and_measured(tmp_path: Path) -> None:
    model = ours()
    model.config = dataclasses.replace(model.config, norm_eps=1e-5)
    model.head.network[0].eps = 1e-5
    done = to_transformers(model, tmp_path / "out")
    assert "the head's 1e-05 becomes 1e-06" in done.notes[0]
    assert 0 < done.difference < 1e-4


def test_what_was_adapted_is_merged_or_refused(tmp_path: Path) -> None:
    model = ours()
    names = install(model.encoder, "lora", PetlConfig(rank=4))
    with torch.no_grad():
        for name in names:
            model.encoder.get_parameter(name).normal_(std=0.1)
    to_transformers(model, tmp_path / "out")
    spec = torch.randn(2, 128, 128)
    with torch.no_grad():
        assert (stock(tmp_path / "out")(spec).logits - model.logits(spec)).abs().max() < 2e-5
    assert hasattr(model.encoder.blocks[0].attn.qkv, "lora_a")  # the model itself is left as it was
    beside = ours()
    install(beside.encoder, "houlsby")
    with pytest.raises(sf.UserError, match="cannot be merged"):
        to_transformers(beside, tmp_path / "other")


@torch.inference_mode()
def test_an_encoder_alone(tmp_path: Path) -> None:
    encoder = ours().encoder
    done = to_transformers(encoder, tmp_path / "out")
    spec = torch.randn(2, 128, 128)
    theirs = stock(tmp_path / "out", "ASTModel")(spec)
    assert (theirs.last_hidden_state - encoder(spec).x).abs().max() < 2e-5
    assert (theirs.pooler_output - encoder(spec).pool("cls")).abs().max() < 2e-5
    assert done.difference < 1e-5
    again = load_encoder(tmp_path / "out", profile="reference")
    assert (again(spec).x - encoder(spec).x).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": (128, 2), "stride": (128, 2), "table": (1, 64), "table_stride": (128, 2)},
         "patches are 128 x 2.*--tokens patch"),
        ({"prefix": 1}, "no dist token"),
        ({"front": FbankConfig(window="povey", low_hz=50)}, "low_hz, window are not"),
        ({"front": FbankConfig(level="equal", padding="reference")}, "front end's level"),
        ({"front": FbankConfig(fixed_frames=128)}, "pads clips with the mean"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(sf.UserError, match=said):
        to_transformers(ours(**change), tmp_path / "out", frames=128)
    assert not (tmp_path / "out").exists()


def test_heads_that_do_not_fit_and_all_reasons_at_once(tmp_path: Path) -> None:
    encoder = ours().encoder
    for head, said in (
        (HeadConfig(pool="mean"), "pools 'mean'.*--pool cls"),
        (HeadConfig("linear", pool="cls"), "no norm and linear layer"),
        (HeadConfig(pool="cls", layers=(1,)), "no norm and linear layer"),
        (HeadConfig("weighted"), "no norm and linear layer"),
    ):
        with pytest.raises(sf.UserError, match=said):
            to_transformers(Model(encoder, CLASSES, head), tmp_path / "out")
    model = Model(with_config(encoder, front=FbankConfig(low_hz=50)), CLASSES, HeadConfig())
    with pytest.raises(sf.UserError, match=r"pools 'mean'.*; .*low_hz.*; .*--frames"):
        to_transformers(model, tmp_path / "out")
    with pytest.raises(sf.UserError, match="--frames 64: the model is fixed to clips of 128"):
        to_transformers(encoder, tmp_path / "out", frames=64)
    with pytest.raises(sf.UserError, match="less than a patch"):
        to_transformers(with_config(encoder, front=FbankConfig()), tmp_path / "out", frames=8)


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    encoder = ours().encoder
    to_transformers(encoder, tmp_path / "out")
    to_transformers(encoder, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(sf.UserError, match="holds other files than an exported model"):
        to_transformers(encoder, tmp_path / "mine")
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear"
