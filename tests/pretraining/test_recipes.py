"""The published recipes are read, and hold the published numbers."""

from __future__ import annotations

import pytest

from sonoformer import recipes
from sonoformer.pretraining.pretrain import PretrainConfig
from sonoformer.settings import build


@pytest.mark.parametrize(
    ("name", "size", "tokens", "batch", "lr"),
    [
        ("ssast-base-patch", "base", "patch", 24, 1e-4),
        ("ssast-base-frame", "base", "frame", 24, 1e-4),
        ("ssast-tiny", "tiny", "patch", 120, 5e-4),
    ],
)
def test_ssast(name: str, size: str, tokens: str, batch: int, lr: float) -> None:
    config = build(PretrainConfig, *recipes.load(name))
    assert (config.size, config.tokens, config.train.batch_size) == (size, tokens, batch)
    optimiser, schedule = config.train.optimiser, config.train.schedule
    assert (optimiser.name, optimiser.lr, optimiser.betas) == ("adam", lr, (0.95, 0.999))
    assert optimiser.weight_decay == 5e-7
    assert (schedule.name, schedule.factor, schedule.patience) == ("plateau", 0.5, 2)
    assert (config.mspm.mask_ratio, config.mspm.weight) == (400 / 512, 10)
    assert config.front.frames(round(config.crop * 16000)) == 1024


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_ssamba(size: str) -> None:
    config = build(PretrainConfig, *recipes.load(f"ssamba-{size}"))
    assert (config.encoder, config.size, config.train.batch_size) == ("ssamba", size, 64)
    optimiser = config.train.optimiser
    assert (optimiser.name, optimiser.lr, optimiser.weight_decay) == ("adamw", 1e-4, 5e-8)
    assert config.mspm.mask_ratio == 400 / 512
    profile = recipes.load(f"ssamba-{size}", "reference")
    assert build(PretrainConfig, *profile).encoder == "ssamba-reference"


@pytest.mark.parametrize(
    ("name", "objective", "size"),
    [
        ("asit-base", "asit", "base"),
        ("asit-tiny", "asit", "tiny"),
        ("asit-drop-tiny", "asit-drop", "tiny"),
    ],
)
def test_asit(name: str, objective: str, size: str) -> None:
    config = build(PretrainConfig, *recipes.load(name))
    assert (config.objective, config.size, config.drop_path) == (objective, size, 0.1)
    own, optimiser, schedule = config.chosen, config.train.optimiser, config.train.schedule
    momentum, temperature = own.momentum, own.temperature
    assert (momentum.at(0, 100), momentum.at(99, 100)) == pytest.approx((0.996, 1.0))
    assert (temperature.at(0, 100), temperature.at(30, 100)) == pytest.approx((0.04, 0.07))
    assert (optimiser.weight_decay, optimiser.weight_decay_end) == (0.04, 0.4)
    assert (optimiser.decayed, optimiser.clip, optimiser.clip_by) == ("matrices", 3.0, "tensor")
    assert schedule.name == "cosine"
    if size == "base":
        assert optimiser.lr == pytest.approx(5e-4 * config.train.batch_size / 256)
        assert optimiser.lr * schedule.floor == pytest.approx(1e-6)
        assert (own.head.clip, own.head.patch, own.head.hidden) == (8192, 1024, 2048)
        assert config.front.frames(round(config.crop * 16000)) == 1024
