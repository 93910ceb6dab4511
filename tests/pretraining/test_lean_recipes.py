"""The recipes of MAE, EAT and M2D are read, and hold the numbers they are published with."""

from __future__ import annotations

import pytest

from sonoformer import recipes
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.pretraining import OBJECTIVES
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.eat import EatConfig
from sonoformer.settings import build

# tokens of the longest clip and how many of them are seen, as published
SHAPES = {"mae-base": ((8, 64), 102), "eat-base": ((8, 64), 102), "m2d-base": ((5, 38), 57)}


@pytest.mark.parametrize("name", SHAPES)
def test_base(name: str) -> None:
    config = build(PretrainConfig, *recipes.load(name))
    grid, seen = SHAPES[name]
    encoder = AstEncoder(ast_config("micro", front=config.front))
    learner = OBJECTIVES[config.objective][1](encoder, config.chosen, round(config.crop * 16000))
    assert learner.grid == grid
    tokens = grid[0] * grid[1]
    assert tokens - round(tokens * config.chosen.mask_ratio) == seen
    assert (config.size, config.train.optimiser.betas) == ("base", (0.9, 0.95))
    assert config.train.optimiser.weight_decay == 0.05


def test_eat_is_as_in_the_authors_configuration() -> None:
    config = build(PretrainConfig, *recipes.load("eat-base"))
    assert config.eat == EatConfig()
    assert (config.train.steps, config.train.batch_size) == (400_000, 48)
    assert (config.train.optimiser.lr, config.train.optimiser.clip) == (5e-4, 4.0)
    assert config.train.schedule.warmup_steps == 53_333


@pytest.mark.parametrize("name", ["mae", "eat", "m2d"])
def test_tiny_changes_no_option_of_the_objective(name: str) -> None:
    config = build(PretrainConfig, *recipes.load(f"{name}-tiny"))
    assert (config.objective, config.size) == (name, "tiny")
    assert config.chosen == OBJECTIVES[name][0]()
