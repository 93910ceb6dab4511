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
