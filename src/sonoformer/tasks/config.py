"""Everything that can be chosen when a classifier is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from cyclopts import Parameter

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.adaptation.petl import METHODS, Petl, PetlConfig
from sonoformer.data.augment import AugmentConfig
from sonoformer.encoders import EncoderName
from sonoformer.errors import UserError
from sonoformer.evaluation.linear import ProbeConfig
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.detection.config import EventsConfig
from sonoformer.training.config import OptimiserConfig, ScheduleConfig, TrainConfig

_FLAT = Parameter(name="*")
_ADAMW = OptimiserConfig(name="adamw", lr=None, weight_decay=0.05)
_COSINE = ScheduleConfig(name="cosine", warmup_steps=20)
_PROBE_RATE = 3e-5


@dataclass(frozen=True)
class FinetuneConfig:
    """Training a classifier, and how it is tested."""

    method: Literal["train", "probe"] | Petl = "train"
    """train: the head and, as `weights` says, the encoder; probe: a linear classifier on the
    features of the frozen encoder, in seconds; the others train the head and a few weights beside
    a frozen encoder, and save only these: `--method list` tells of them."""
    protocol: Literal["auto", "split", "folds", "groups"] = "auto"
    """split: one training, tested on the part called test; folds: each fold is tested by a model
    trained on the others; groups: the same with each group as a fold. auto: folds if the table has
    a fold column and no split column."""
    folds: int = 5
    """folds: how many, if the table has no fold column."""
    only: tuple[str, ...] = ()
    """folds, groups: the names of those to do; all by default."""
    seeds: int = 1
    """Trainings that differ only in their seed: seed, seed + 1, ..."""
    validation: float = 0.0
    """Share of the training groups set aside to watch training, and to choose the weights if `best`
    is given; 0 uses what the table calls validation, and trains on all else. Test clips are never
    used for that."""
    shots: int | None = None
    """Train on so many clips of each class only, drawn from the training clips by seed, from as
    many groups as there are; a draw of more holds those of a draw of fewer. All by default."""
    budget: float | None = None
    """Minutes in which to try a few methods and rates on a held-out part of the training clips, and
    to train the best on all of them; see docs/adaptation.md."""
    test: float = 0.2
    """split: share of the groups to test on, if the table has no split column; 0 tests nothing."""
    leaks: Literal["refuse", "allow"] = "refuse"
    """What to do if the same file, group or content is on both sides of a split."""
    encoder: EncoderName = "ast"
    """Encoder without a checkpoint: ast, a transformer; the others have
    state-space blocks, see `pretrain --help`."""
    size: Literal["micro", "tiny", "small", "base"] = "tiny"
    """Encoder without a checkpoint: width and depth."""
    tokens: Literal["patch", "frame"] = "patch"
    """Encoder without a checkpoint: 16x16 patches, or columns of 2 frames."""
    front: FbankConfig = FbankConfig()
    """Encoder without a checkpoint: how it hears. A checkpoint takes `speed` alone of these."""
    fresh: bool = False
    """Take only the shape of the given checkpoint, with new random weights, to compare with."""
    stride: tuple[int, int] | None = None
    """Bins and frames from one patch to the next; the checkpoint's if absent. Smaller strides cost
    more time and usually gain accuracy."""
    positions: Literal["checkpoint", "seconds", "reference"] = "checkpoint"
    """How positions learned on one grid are read on another. seconds: by the token's own place;
    reference: by the authors' rule, which cuts the middle of the table out or stretches it whatever
    the stride; with `fixed_frames` a table of the new size is then learned, as theirs is.
    checkpoint: as the checkpoint has it."""
    padding: Literal["checkpoint", "mask", "reference"] = "checkpoint"
    """What frames past a clip's end hold: mask, the mean; reference, as in the authors' loader, a
    log-mel of 0, which is louder. It is heard only with `fixed_frames`, and by clips shorter than a
    patch."""
    fixed_frames: int | None = None
    """Pad or cut every clip to this many frames and take padding for sound, as the authors do; 0
    lets clips keep their lengths; as the checkpoint has it if absent."""
    level: Literal["checkpoint", "keep", "equal"] = "checkpoint"
    """equal: bring every clip to the same level, where loudness tells of the recorder and not of
    the class; keep: leave it; checkpoint: as the checkpoint has it."""
    statistics: Literal["auto", "keep", "measure", "audioset", "esc50", "speech-commands"] = "auto"
    """Normalisation of the spectrograms: the checkpoint's, measured on the training clips, or the
    SSAST authors' constants for a data set. auto: measured if there is no checkpoint."""
    seconds: float = 10.0
    """Longest stretch the model sees at once; see `crops` for longer clips."""
    crops: Literal["random", "first"] = "random"
    """random: longer clips are cropped at random in training, and scored in windows whose scores
    are averaged; first: only their first `seconds` are heard, in training, validation and test, as
    in the authors' loader."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """balanced: clips of rare classes come more often (PSLA, Gong et al. 2021)."""
    frozen_cache: Literal["auto", "on", "off"] = "auto"
    """Compute the frozen part of the encoder once a clip and read it from disk in every epoch: with
    `weights` head or partial, no augmentation, no `drop_path` and no random crops. auto: where that
    changes nothing; on: refuse to train where it would."""
    resamples: int = 1000
    """Bootstrap samples behind each interval."""
    classifier: Annotated[ClassifierConfig, _FLAT] = ClassifierConfig()
    """Head, loss and targets."""
    adaptation: Annotated[AdaptationConfig, _FLAT] = AdaptationConfig()
    """Which weights train."""
    augment: Annotated[AugmentConfig, _FLAT] = AugmentConfig()
    """What is done to the training clips."""
    petl: PetlConfig = PetlConfig()
    """Methods with few weights: their sizes and places."""
    probe: Annotated[ProbeConfig, Parameter(consume_multiple=True)] = ProbeConfig()
    """probe: the classifier on frozen features."""
    events: EventsConfig = EventsConfig()
    """task events: which classes are heard when."""
    train: Annotated[TrainConfig, _FLAT] = TrainConfig(optimiser=_ADAMW, schedule=_COSINE)
    """How long and how fast."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UserError(f"seeds: must be at least 1; got {self.seeds}.")
        if self.folds < 2:
            raise UserError(f"folds: must be at least 2; got {self.folds}.")
        if not (0 <= self.validation < 1 and 0 <= self.test < 1):
            raise UserError(
                f"validation, test: must be at least 0 and below 1; got {self.validation} and "
                f"{self.test}."
            )
        if self.shots is not None and self.shots < 1:
            raise UserError(f"shots: must be at least 1; got {self.shots}.")
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UserError(f"budget: must be above 0 minutes; got {self.budget}.")
        if self.seconds <= 0:
            raise UserError(f"seconds: must be above 0; got {self.seconds}.")
        if self.fixed_frames is not None and not 0 <= self.fixed_frames <= 10**6:
            raise UserError(
                f"fixed_frames: must lie within 0 (none) to a million; got {self.fixed_frames}."
            )
        if self.resamples < 100:
            raise UserError(f"resamples: must be at least 100; got {self.resamples}.")
        if self.stride is not None and min(self.stride) < 1:
            raise UserError(f"stride: both must be at least 1; got {self.stride}.")
        if self.method in METHODS and self.adaptation.weights != "full":
            raise UserError(
                f"weights: {self.adaptation.weights} says what trains, and so does method "
                f"{self.method}; give one of them"
            )
        if self.classifier.task == "events" and (self.method == "probe" or self.crops == "first"):
            raise UserError(
                "method, crops: events are learned from crops of all of a recording, with method "
                "train or one of few weights; for a frozen encoder give --weights head."
            )
        if self.classifier.task == "events" and self.budget is not None:
            raise UserError("budget: tries methods on clips; for events choose one by --method.")
        if self.method == "probe" and self.classifier.head == "weighted":
            raise UserError("head: a probe is linear; the weighted head needs method train.")

    def with_rate(self) -> FinetuneConfig:
        """Itself, with learning rates that suit what trains where none were chosen."""
        rate = self.train.optimiser.lr
        if rate is None and self.method in METHODS:
            rate = METHODS[self.method].rate
        elif rate is None:
            rate = 1e-3 if self.adaptation.weights == "head" else 3e-4
        above = self.adaptation.head_multiplier
        if above is None:
            # Its weights are many and agree: at the rate of others it would forget in a few steps.
            above = min(1.0, _PROBE_RATE / rate) if self.classifier.head == "probe" else 1.0
        return replace(
            self,
            train=replace(self.train, optimiser=replace(self.train.optimiser, lr=rate)),
            adaptation=replace(self.adaptation, head_multiplier=above),
        )
