"""Fine-tuning recipes: each fills the options, and says its command and result on top."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from sonoformer import recipes
from sonoformer.settings import build, plain
from sonoformer.tasks.config import FinetuneConfig

NAMES = (
    "audioset-20k",
    "esc50-frame",
    "esc50-patch",
    "petl-esc50",
    "petl-fluent-speech",
    "petl-iemocap",
    "petl-speech-commands-v2",
    "petl-urbansound8k",
    "small",
    "ssamba-audioset-20k",
    "ssamba-esc50",
    "ssamba-speech-commands-v2",
    "speech-commands-v2",
    "superb-er",
    "superb-ks",
    "superb-sid",
)


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` on top of `below`, key by key: what the command line does with a recipe."""
    nested = {k: over(below[k], v) if isinstance(v, dict) else v for k, v in above.items()}
    return {**below, **nested}


@pytest.mark.parametrize("name", NAMES)
def test_recipe_fills_the_options(name: str) -> None:
    mapping, source = recipes.load(name)
    config = build(FinetuneConfig, mapping, source)
    assert config != FinetuneConfig()
    # Nothing is left to defaults that differ between the command line and the library.
    assert build(FinetuneConfig, over(plain(FinetuneConfig()), mapping), source) == config
    # What chooses weights by validation must have something to validate on.
    if config.train.best is not None:
        assert config.validation > 0 or config.protocol == "split"


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_its_command_and_cost_on_top(name: str) -> None:
    text = files(recipes.__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    comment = text.split("\n\n")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    command = comment.replace("\\\n#", " ")
    assert "sonoformer finetune" in command
    assert f"--recipe {name}" in command
    assert "# Cost" in comment
    if name != "small":
        assert "# Result   as published" in comment


def test_a_recipes_rate_is_a_choice() -> None:
    mapping, source = recipes.load("small")
    config = build(FinetuneConfig, over(mapping, {"method": "lora", "adaptation": {}}), source)
    assert config.with_rate().train == config.train
    assert config.train.optimiser.peak == 5e-4


def test_the_papers_schedules() -> None:
    esc = build(FinetuneConfig, *recipes.load("esc50-patch"))
    assert (esc.stride, esc.train.epochs, esc.train.batch_size) == ((10, 10), 50, 48)
    assert (esc.augment.freq_mask, esc.augment.time_mask, esc.augment.noise) == (24, 96, True)
    audioset = build(FinetuneConfig, *recipes.load("audioset-20k"))
    assert audioset.train.schedule.milestones == (10, 15, 20, 25)
    assert (audioset.train.average_from, audioset.train.average_to) == (6, 25)


@pytest.mark.parametrize(
    ("name", "seconds", "batch", "epochs"),
    [
        ("petl-esc50", 5.0, 32, 50),
        ("petl-urbansound8k", 4.0, 32, 30),
        ("petl-speech-commands-v2", 1.0, 128, 75),
        ("petl-fluent-speech", 4.0, 32, 75),
        ("petl-iemocap", 8.0, 32, 20),
    ],
)
def test_the_protocol_of_few_weights(name: str, seconds: float, batch: int, epochs: int) -> None:
    mapping, source = recipes.load(name)
    config = build(FinetuneConfig, over(plain(FinetuneConfig()), mapping), source)
    assert (config.seconds, config.train.batch_size, config.train.epochs) == (
        seconds, batch, epochs,
    )  # fmt: skip
    optimiser = config.with_rate().train.optimiser
    assert (optimiser.peak, optimiser.betas, optimiser.eps) == (5e-3, (0.9, 0.98), 1e-6)
    # Another method brings the paper's rate for it.
    prefix = build(FinetuneConfig, over(mapping, {"method": "prefix"}), source)
    assert prefix.with_rate().train.optimiser.peak == 1e-2
