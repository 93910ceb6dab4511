"""Learning from sound without labels: one file per objective."""

from __future__ import annotations

from sonoformer.pretraining.mspm import Mspm, MspmConfig

# name -> (options, learner); a learner is made from an encoder, its options and the clip length.
OBJECTIVES = {"mspm": (MspmConfig, Mspm)}

__all__ = ["OBJECTIVES", "Mspm", "MspmConfig"]
