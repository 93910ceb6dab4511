"""Learning from sound without labels: one file per objective."""

from __future__ import annotations

from sonoformer.pretraining.asit import Asit, AsitConfig
from sonoformer.pretraining.asit_drop import AsitDrop, AsitDropConfig
from sonoformer.pretraining.eat import Eat, EatConfig
from sonoformer.pretraining.m2d import M2d, M2dConfig
from sonoformer.pretraining.mae import Mae, MaeConfig
from sonoformer.pretraining.mspm import Mspm, MspmConfig
from sonoformer.pretraining.objective import Objective

# name -> (options, learner); a learner is made from an encoder, its options and the clip length.
OBJECTIVES = {
    "mspm": (MspmConfig, Mspm),
    "mae": (MaeConfig, Mae),
    "eat": (EatConfig, Eat),
    "m2d": (M2dConfig, M2d),
    "asit": (AsitConfig, Asit),
    "asit-drop": (AsitDropConfig, AsitDrop),
}

__all__ = [
    "OBJECTIVES",
    "Asit",
    "AsitConfig",
    "AsitDrop",
    "AsitDropConfig",
    "Eat",
    "EatConfig",
    "M2d",
    "M2dConfig",
    "Mae",
    "MaeConfig",
    "Mspm",
    "MspmConfig",
    "Objective",
]
