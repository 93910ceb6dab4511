"""Recipes and their profiles: what lies over what, and that all of them can be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonoformer import recipes
from sonoformer.cli.main import make_app
from sonoformer.errors import UserError
from sonoformer.pretraining.asit import AsitConfig
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.mspm import MspmConfig
from sonoformer.settings import build, merged
from sonoformer.tasks.config import FinetuneConfig

STATES = ("ssamba-tiny", "ssamba-small", "ssamba-base")
PRETRAINED = [n for n in recipes.names() if n.startswith("ssast-") or n in STATES]
OWN = ("small", "small-pool", "rumble", "speedup", "ultrasound")  # no paper's
OTHERS = [name for name in recipes.names() if "objective" in recipes.load(name)[0]]
# Their programs' quirks are described where the methods are, and not repeated.
FEW = [name for name in recipes.names() if name.startswith("petl-")]
FINETUNED = [name for name in recipes.names() if name not in (*PRETRAINED, *OWN, *OTHERS, *FEW)]
MINE = """
crop: 0.5
train: {batch_size: 3, optimiser: {lr: 0.01}}
profiles:
  loud: {train: {optimiser: {lr: 0.1}}}
  quiet: {crop: 0.25}
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return str(path)


def test_a_profile_lies_over_its_recipe_key_by_key(mine: str) -> None:
    plain, source = recipes.load(mine)
    assert plain == {"crop": 0.5, "train": {"batch_size": 3, "optimiser": {"lr": 0.01}}}
    assert source == mine
    loud, source = recipes.load(mine, "loud")
    assert loud == {"crop": 0.5, "train": {"batch_size": 3, "optimiser": {"lr": 0.1}}}
    assert source == f"{mine}, profile loud"
    assert recipes.load(mine, "quiet")[0] == {**plain, "crop": 0.25}


def test_laying_over_changes_neither_mapping() -> None:
    below, above = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "e": {"f": 5}}
    assert merged(below, above) == {"a": {"b": 1, "c": 4}, "d": 3, "e": {"f": 5}}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}
    assert above == {"a": {"c": 4}, "e": {"f": 5}}
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


def test_a_profile_that_is_not_there_is_named_with_those_that_are(mine: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml has no profile.*loud, quiet.*mean 'loud'"):
        recipes.load(mine, "lout")
    with pytest.raises(UserError, match=r"recipe small has no profile of that name; it has none"):
        recipes.load("small", "reference")


@pytest.mark.parametrize("profiles", ["3", "[reference]", "{reference: 3}"])
def test_profiles_that_are_no_mappings_are_refused(tmp_path: Path, profiles: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"profiles: {profiles}\n")
    with pytest.raises(UserError, match="mapping of options for each name"):
        recipes.load(str(path))


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_profile_needs_a_recipe(verb: str) -> None:
    with pytest.raises(UserError, match=r"--profile reference.*--recipe"):
        make_app([verb, "sounds", "--profile", "reference"])


@pytest.mark.parametrize("name", PRETRAINED)
def test_reference_pretraining_is_the_authors(name: str) -> None:
    config = build(PretrainConfig, *recipes.load(name, "reference"))
    assert config.mspm == MspmConfig.reference()
    assert (config.crops, config.statistics) == ("first", "keep")
    assert (config.front.padding, config.front.fixed_frames) == ("reference", 1024)
    assert config.train.schedule.warmup == "reference"
    # Long recordings fill the frames: none of them is padding.
    assert PretrainConfig().front.frames(round(config.crop * 16000)) == 1024
    plain = build(PretrainConfig, *recipes.load(name))
    assert plain.mspm == MspmConfig()
    assert plain.train.optimiser == config.train.optimiser


def test_reference_asit_is_the_authors() -> None:
    config = build(PretrainConfig, *recipes.load("asit-base", "reference"))
    assert config.asit == AsitConfig.reference()
    assert (config.front.sample_rate, config.statistics) == (32000, "keep")
    plain = build(PretrainConfig, *recipes.load("asit-base"))
    assert plain.asit == AsitConfig()
    assert plain.train == config.train


FRAMES = {
    "audioset-20k": 1024, "esc50-frame": 512, "esc50-patch": 512, "speech-commands-v2": 128,
    "superb-er": 600, "superb-ks": 100, "superb-sid": 1000, "ssamba-audioset-20k": 1024,
    "ssamba-esc50": 512, "ssamba-speech-commands-v2": 128,
}  # fmt: skip


@pytest.mark.parametrize("name", FINETUNED)
def test_reference_finetuning_is_the_authors(name: str) -> None:
    config = build(FinetuneConfig, *recipes.load(name, "reference"))
    superb = name.startswith("superb")
    assert config.fixed_frames == FRAMES[name]
    assert config.padding == ("mask" if superb else "reference")
    assert config.augment.masks == ("inside" if superb else "reference")
    assert config.positions == "reference"
    # Speakers are heard in random crops of 8 s, which padding lengthens to 10.
    speakers = name == "superb-sid"
    assert config.crops == ("random" if speakers else "first")
    heard = PretrainConfig().front.frames(round(config.seconds * 16000))
    assert heard == (798 if speakers else FRAMES[name])
    plain = build(FinetuneConfig, *recipes.load(name))
    assert (plain.positions, plain.padding, plain.fixed_frames) == ("checkpoint",) * 2 + (None,)
    assert plain.train == config.train
