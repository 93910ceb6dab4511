"""State-space encoders in fine-tuning, probes and prediction, by options alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sonoformer.adaptation.parameters import AdaptationConfig, levels, parameter_groups
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import new_encoder, save_encoder, ssamba2_config, ssamba_config
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune
from sonoformer.tasks.model import load_model

LABELS = ["low", "mid", "high"] * 8
MakeSet, Make, Start = Callable[..., Manifest], Callable[..., FinetuneConfig], Callable[..., Run]
FRONT = FbankConfig(sample_rate=8000, n_mels=32)


@pytest.mark.parametrize(
    ("make_config", "method"),
    [(ssamba_config, "train"), (ssamba2_config, "train"), (ssamba_config, "probe")],
)
def test_a_classifier_from_a_checkpoint(
    make_config: Callable,
    method: str,
    make_set: MakeSet,
    config: Make,
    start: Start,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    shape = make_config("micro", dim=32, depth=2, front=FRONT)
    save_encoder(new_encoder(shape), tmp_path / "before", "card")
    manifest = make_set(LABELS)
    settings = config(
        epochs=6, method=method, test=0.25, adaptation=AdaptationConfig(layer_decay=0.9)
    )
    run = start(settings)
    with run:
        result = finetune(manifest, tmp_path / "before", settings, run, device="cpu", bar=False)
    assert result.card is not None
    assert result.card.figures["accuracy"].value >= 0.6
    model = load_model(run.folder)
    assert type(model.encoder.config) is type(shape)
    waves = 0.1 * torch.randn(2, 4000)
    scores = model.predict_waveforms(waves)
    assert torch.as_tensor(scores).isfinite().all()


def test_layers_have_levels_and_decays_no_weight_decay() -> None:
    encoder = new_encoder(ssamba_config("micro", dim=32, depth=4, wiring="reference"))
    level = levels(encoder)
    assert level["pos_embed"] == 0
    assert level["blocks.1.other.mixer.ahead.A_log"] == 2
    assert level["norm.weight"] == 3
    config = AdaptationConfig(decay_norms=False)
    groups = parameter_groups(encoder, torch.nn.Linear(32, 3), config, 1e-3)
    free = {id(p) for g in groups if g.get("weight_decay") == 0.0 for p in g["params"]}
    for name, parameter in encoder.named_parameters():
        spared = name.endswith(("A_log", ".D", "bias", "_token", "pos_embed")) or "norm" in name
        assert (id(parameter) in free) == spared, name
