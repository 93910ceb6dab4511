"""State-space encoders in pretraining: the authors' loss, tokens left out, a run by options."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixture_rules import close, spectrograms
from tests.pretraining.objectives import LENGTHS, SAMPLES, assert_padding_changes_nothing
from tests.published_files import FIXTURES, pretrained_ssamba

from sonoformer.audio import write
from sonoformer.encoders import load_encoder, new_encoder, ssamba2_config, ssamba_config
from sonoformer.nn.masks import Mask
from sonoformer.pretraining import OBJECTIVES
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.mspm import Mspm, MspmConfig, generative_mse, info_nce
from sonoformer.pretraining.pretrain import pretrain
from sonoformer.pretraining.starting import starting_point
from sonoformer.run import Run
from sonoformer.training import TrainConfig


@pytest.mark.parametrize("mode", ["std02", "wide"])
@torch.inference_mode()
def test_losses_are_the_authors(mode: str, tmp_path: Path) -> None:
    stored = np.load(FIXTURES / "ssamba" / f"pretrain_patch_tiny_depth4_n400_{mode}.npz")
    file = pretrained_ssamba(tmp_path / "ssamba.pth", mode)
    encoder, tensors, _ = starting_point(file)
    config = dataclasses.replace(MspmConfig.reference(), passes=1)
    model = Mspm(encoder, config, samples=164080).eval()
    found = model.load_state_dict(tensors, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("encoder.") for name in found.missing_keys)
    patches = encoder.patches(spectrograms("ssamba/pretrain/patch", 1024))
    ids = torch.from_numpy(stored["masks"].astype(np.int64))
    mask = Mask(ids, torch.ones_like(ids, dtype=torch.bool))
    states = model._hidden_states(patches, mask)
    predictions = model.classify(states), model.reconstruct(states)
    for prediction, name in zip(predictions, ("pred_c_first8", "pred_g_first8"), strict=True):
        close(prediction[:, :8], stored[name], "prediction")
    targets = patches.pixels[torch.arange(2).unsqueeze(1), ids]
    close(targets[:, :8], stored["target_first8"], "positions")
    scores = predictions[0] @ targets.mT
    assert stored["smallest_margin_sum64"].min() > 1e-5
    assert np.array_equal(scores.argmax(2).numpy(), stored["best_target_of_each_prediction"])
    assert np.array_equal(scores.argmax(1).numpy(), stored["best_prediction_of_each_target"])
    for clip in range(2):
        one = slice(clip, clip + 1)
        parts = predictions[0][one], targets[one], mask.keep[one]
        for direction, name in (("target", "nce"), ("prediction", "nce_other_axis")):
            loss, accuracy, _ = info_nce(*parts, direction)  # type: ignore[arg-type]
            close(loss, stored[f"{name}_per_sample"][clip], "nce")
            if direction == "target":
                assert accuracy.item() == pytest.approx(stored["acc_per_sample"][clip], abs=1e-7)
        mse = generative_mse(predictions[1][one], targets[one], mask.keep[one])
        close(mse, stored["mse_per_sample"][clip], "mse")
    close(model.terms(patches, [mask])["info_nce"], stored["nce"], "nce")


@pytest.mark.parametrize("objective", ["mspm", "mae", "eat", "m2d"])
@pytest.mark.parametrize("make", [ssamba_config, ssamba2_config])
def test_padding_changes_no_loss(objective: str, make: object) -> None:
    torch.manual_seed(0)
    encoder = new_encoder(make("micro", dim=32, depth=2))  # type: ignore[operator]
    options, kind = OBJECTIVES[objective]
    model = kind(encoder, options(), SAMPLES).eval()
    model.begin()
    assert_padding_changes_nothing(model, LENGTHS, _TERMS[objective])


_TERMS = {
    "mspm": {"info_nce", "mse", "accuracy"},
    "mae": {"mse"},
    "eat": {"patch", "utterance"},
    "m2d": {"distance"},
}


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("ssamba", "mae"),
        ("ssamba2", "mspm"),
        pytest.param("ssamba", "mspm", marks=pytest.mark.slow),
    ],
)
def test_a_run_by_options_alone(name: str, objective: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        sound = rng.normal(0, 0.1, 12000 + 2000 * number).astype(np.float32)
        write(tmp_path / "pool" / f"{number}.wav", sound, 16000)
    train = TrainConfig(steps=2, batch_size=2, workers=0, precision="fp32")
    config = PretrainConfig(
        encoder=name,  # type: ignore[arg-type]
        objective=objective,  # type: ignore[arg-type]
        size="micro",
        crop=1.0,
        holdout=0.2,
        drop_path=0.1,
        train=train,
    )
    with Run.start(tmp_path / "run", "pretrain", config, 0) as run:
        result = pretrain([tmp_path / "pool"], config, run, seed=0, device="cpu")
    assert np.isfinite(result.final["loss"])
    encoder = load_encoder(tmp_path / "run")
    assert type(encoder).__name__ == {"ssamba": "SsambaEncoder", "ssamba2": "Ssamba2Encoder"}[name]
    assert encoder.config.drop_path == 0
    assert encoder.embed(tmp_path / "pool" / "0.wav", window=0.5).shape == (2, 128)
    # Going on from there, at another length.
    config = dataclasses.replace(config, crop=1.5, train=dataclasses.replace(train, steps=1))
    with Run.start(tmp_path / "more", "pretrain", config, 0) as run:
        pretrain([tmp_path / "pool"], config, run, seed=0, device="cpu", init=tmp_path / "run")
    assert type(load_encoder(tmp_path / "more")) is type(encoder)
