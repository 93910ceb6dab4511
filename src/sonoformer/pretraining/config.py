"""Everything that can be chosen when an encoder is pretrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sonoformer.data.augment import AugmentConfig
from sonoformer.encoders import EncoderName
from sonoformer.errors import UserError
from sonoformer.pretraining.asit import AsitConfig
from sonoformer.pretraining.asit_drop import AsitDropConfig
from sonoformer.pretraining.eat import EatConfig
from sonoformer.pretraining.m2d import M2dConfig
from sonoformer.pretraining.mae import MaeConfig
from sonoformer.pretraining.mspm import MspmConfig
from sonoformer.spectral import FbankConfig
from sonoformer.spectral.fixed import refuse_unheard
from sonoformer.training import TrainConfig
from sonoformer.training.config import OptimiserConfig, ScheduleConfig

_ADAM = OptimiserConfig(name="adam", lr=5e-4, betas=(0.95, 0.999), weight_decay=5e-7)
_SCHEDULE = ScheduleConfig(name="cosine", warmup_steps=200)


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining; the defaults are SSAST tiny's, with a cosine schedule for shorter runs."""

    encoder: EncoderName = "ast"
    """ast: a transformer; ssamba: bidirectional state-space blocks without attention, whose time
    grows with the number of tokens and not with its square (SSAMBA); ssamba2: the same on
    state-space duality, faster, ours; ssamba-reference: SSAMBA wired as its authors do."""
    size: Literal["micro", "tiny", "small", "base"] = "tiny"
    """Width and depth of the encoder."""
    tokens: Literal["patch", "frame"] = "patch"
    """16x16 patches, for sound in general, or columns of 2 frames, for speech."""
    crop: float = 10.24
    """Longest clip in seconds; see `crops` for longer recordings."""
    crops: Literal["all", "first"] = "all"
    """all: longer recordings are heard whole, a crop of each stretch an epoch, at places that
    differ from epoch to epoch; first: only their first `crop` seconds are ever heard, as in the
    authors' loader."""
    shortest: float = 0.2
    """Recordings shorter than this many seconds are left out."""
    holdout: float = 0.05
    """Share of the recordings kept apart for validation."""
    holdout_most: int = 256
    """Most clips validated on."""
    balance: float = 0.0
    """How strongly sources (the manifest's group column, else the folder) are evened out: with 0
    each clip comes once an epoch; with 1 every source is heard equally often; 0.5 goes by the
    square root of their number of clips."""
    weights: Literal["equal", "manifest"] = "equal"
    """manifest: recordings are drawn by the manifest's `weight` column, whatever their length, and
    `balance` has to be 0; the pools of `sonoformer data fetch` hold weights that draw their
    packages by the square root of their hours."""
    statistics: Literal["measure", "keep"] = "measure"
    """Measure the normalisation on the pool, or keep the front end's constants (of a checkpoint
    that is continued: its own)."""
    objective: Literal["mspm", "mae", "eat", "m2d", "asit", "asit-drop"] = "mspm"
    """What is learnt from. mspm: telling hidden patches apart and rebuilding them (SSAST); mae:
    rebuilding them from the visible ones alone (Audio-MAE), at a third of the cost; eat: what a
    teacher makes of the whole clip, from many views of it (EAT); m2d: what a teacher makes of the
    hidden patches alone (M2D); asit: what a teacher makes of clips and patches that the encoder
    hears corrupted, and rebuilding them (ASiT); asit-drop: the same, hidden patches left out."""
    mspm: MspmConfig = MspmConfig()
    """Masked spectrogram patch modelling."""
    mae: MaeConfig = MaeConfig()
    """Masked autoencoding."""
    eat: EatConfig = EatConfig()
    """Latent bootstrap with many masks a clip."""
    m2d: M2dConfig = M2dConfig()
    """Masked modelling duo."""
    asit: AsitConfig = AsitConfig()
    """Self-distillation of clips and patches, and reconstruction."""
    asit_drop: AsitDropConfig = AsitDropConfig()
    """The same with hidden tokens left out of the student."""
    drop_path: float = 0.0
    """Probability of leaving out a branch of the last block while pretraining; the first block's is
    0, and those between rise. The encoder that is saved has none."""
    augment: AugmentConfig = AugmentConfig()
    """What is done to the clips: `mixup` lays another clip over a clip, `roll` turns it round,
    `gain_db` changes its level."""
    front: FbankConfig = FbankConfig()
    """The filterbank. A checkpoint that is continued keeps its own, and hears with the `padding`
    and `fixed_frames` given here, and with `mean`, `std` and `level` where they are given."""
    train: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig(
        optimiser=_ADAM, schedule=_SCHEDULE
    )
    """How long and how fast."""

    def __post_init__(self) -> None:
        if self.crop <= 0 or self.shortest < 0:
            raise UserError("crop must be above 0 seconds, shortest at least 0")
        if not 0 <= self.holdout < 1 or self.holdout_most < 1:
            raise UserError("holdout must be at least 0 and below 1, holdout_most at least 1")
        if not 0 <= self.balance <= 1:
            raise UserError(f"balance: must be between 0 and 1; got {self.balance}")
        if self.weights == "manifest" and self.balance:
            raise UserError("balance: with weights from the manifest it has to be 0")
        self._check_objective()
        if not 0 <= self.drop_path < 1:
            raise UserError(f"drop_path: must be at least 0 and below 1; got {self.drop_path}")
        if self.augment.on_spectrogram:
            raise UserError(
                "augment: freq_mask, time_mask and noise are for fine-tuning; what is hidden in "
                "pretraining is the objective's to choose"
            )
        refuse_unheard(self.front, self.crop, "crop")
        if self.front.trainable:
            raise UserError(
                "front.trainable: what is to be predicted would change with what predicts it; "
                "learn the front end in fine-tuning"
            )

    @property
    def chosen(self) -> Any:
        """The options of the objective."""
        return getattr(self, _FIELDS.get(self.objective, self.objective))

    def _check_objective(self) -> None:
        used = _FIELDS.get(self.objective, self.objective)
        for name, kind in _OBJECTIVES.items():
            if name != used and getattr(self, name) != kind():
                raise UserError(
                    f"{name}: these options belong to another objective than {self.objective}; "
                    f"leave them away or give --objective {name.replace('_', '-')}"
                )


_OBJECTIVES: dict[str, type] = {
    "mspm": MspmConfig,
    "mae": MaeConfig,
    "eat": EatConfig,
    "m2d": M2dConfig,
    "asit": AsitConfig,
    "asit_drop": AsitDropConfig,
}
_FIELDS: dict[str, str] = {"asit-drop": "asit_drop"}
"""Objective -> its options, where these have another name."""
