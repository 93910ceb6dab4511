"""Learning from sound without labels: one file per objective."""

from __future__ import annotations

from sonoformer.pretraining.mae import Mae, MaeConfig
from sonoformer.pretraining.mspm import Mspm, MspmConfig
from sonoformer.pretraining.objective import Objective

# name -> (options, learner); a learner is made from an encoder, its options and the clip length.
OBJECTIVES = {"mspm": (MspmConfig, Mspm), "mae": (MaeConfig, Mae)}

__all__ = ["OBJECTIVES", "Mae", "MaeConfig", "Mspm", "MspmConfig", "Objective"]
