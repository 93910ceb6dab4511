"""Published encoders in our terms, and what their files do not say of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from sonoformer.encoders.ast import AstConfig
from sonoformer.encoders.checkpoint import encoder_of, filled
from sonoformer.encoders.patched import PatchEncoder
from sonoformer.encoders.ssamba import SsambaConfig
from sonoformer.errors import UserError, brief
from sonoformer.nn.tokens import Pooling
from sonoformer.spectral import PRESETS, FbankConfig

Profile = Literal["auto", "default", "reference"]


@dataclass(frozen=True)
class Hints:
    """What to know of a published checkpoint beside its file; most files need none of it."""

    stride: tuple[int, int] | None = None
    """Bins and frames from one patch to the next, where the weights fit several."""
    pool: Literal["mean", "cls"] | None = None
    """The tokens that the head was trained on: cls is AST's mean of cls and dist; mean is SSAST's
    mean of the patches. Files of the authors' programs do not say."""
    task: Literal["single", "multi"] | None = None
    """single: one class a clip, scores by softmax; multi: any number, scores by sigmoid."""
    statistics: Literal["audioset", "esc50", "speech-commands"] | None = None
    """The authors' normalisation constants that the weights were trained with."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, in the order of the outputs; numbered if absent."""
    profile: Profile = "auto"
    """reference: hear as the original program does: clips padded or cut to its number of frames,
    padding taken for sound, positions by its rule. default: any length, padding never attended to,
    positions by time. auto: reference for a classifier, whose head was trained so, else default."""

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the hints that differ from their defaults."""
        fresh = Hints()
        return tuple(n for n in self.__dataclass_fields__ if getattr(self, n) != getattr(fresh, n))


@dataclass(frozen=True)
class PublishedHead:
    """A classifier's head: LayerNorm and a linear layer on pooled tokens.

    Attributes:
        tensors: `0.weight`, `0.bias`, `1.weight`, `1.bias`.
        norm_eps: epsilon of its norm.
        classes: names of the classes.
        pool: the tokens that are pooled; None where neither the file nor a hint says.
        single: whether one class is right for a clip; None likewise.
    """

    tensors: dict[str, Tensor]
    norm_eps: float
    classes: tuple[str, ...]
    pool: Pooling | None
    single: bool | None


@dataclass(frozen=True)
class Published:
    """A checkpoint of another program.

    Attributes:
        kind: what it is, in words.
        source: its path.
        config: the encoder's configuration in the default profile.
        frames: length of the clips that it was made for.
        encoder: the encoder's tensors under our names.
        head: the classifier's head, if any.
        pretext: tensors of a pretext task, under the authors' names.
        notes: what was inferred, and what was left out.
        unsaid: hints that a classifier needs and nobody gave, and what they are about.
    """

    kind: str
    source: str
    config: AstConfig | SsambaConfig
    frames: int
    encoder: dict[str, Tensor]
    head: PublishedHead | None = None
    pretext: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unsaid: dict[str, str] = field(default_factory=dict)

    def configured(self, profile: Profile, *, classifier: bool) -> AstConfig | SsambaConfig:
        """The configuration in a profile (see `Hints.profile`)."""
        if profile == "default" or (profile == "auto" and not classifier):
            return self.config
        front = replace(self.config.front, padding="reference", fixed_frames=self.frames)
        return replace(self.config, positions="reference", front=front)

    def make_encoder(self, profile: Profile = "auto", *, classifier: bool = False) -> PatchEncoder:
        """The encoder with its weights, in evaluation mode.

        Raises:
            UserError: the weights do not fit together.
        """
        config = self.configured(profile, classifier=classifier)
        return filled(encoder_of(config), config, self.encoder, self.source).eval()

    def classifier(self) -> PublishedHead:
        """The head, with all that a classifier needs.

        Raises:
            UserError: there is none, or hints are missing; all of them are named.
        """
        if self.head is None:
            raise UserError(
                f"{self.source}: is a {self.kind} without a classifier; `sonoformer embed` gives "
                "its features, `sonoformer finetune --init` makes a classifier of it"
            )
        if self.unsaid:
            flags = "; ".join(f"--{name}: {why}" for name, why in self.unsaid.items())
            raise UserError(
                f"{self.source}: the file does not say all that its classifier needs; give "
                f"`sonoformer convert` {flags}"
            )
        return self.head


def front_end(bins: int, hints: Hints) -> FbankConfig:
    """The programs' filterbank with the constants that the hints name; AudioSet's by default."""
    constants = PRESETS[hints.statistics or "audioset"]
    return FbankConfig(n_mels=bins, mean=constants["mean"], std=constants["std"])


def unsaid_of_classifier(hints: Hints) -> dict[str, str]:
    """What a classifier of the authors' programs needs beside its file, and is not given."""
    all_of_it = {
        "pool": "cls (AST) or mean (SSAST's and SSAMBA's default)",
        "task": "multi (AudioSet) or single (one class a clip)",
        "statistics": "audioset, esc50 or speech-commands, whichever it was trained on",
    }
    return {name: why for name, why in all_of_it.items() if getattr(hints, name) is None}


def class_names(hints: Hints, count: int, source: str) -> tuple[str, ...]:
    """Names of `count` classes: those given, or numbers.

    Raises:
        UserError: another number of names than of outputs, or a name twice.
    """
    if hints.classes is None:
        return tuple(f"class {number}" for number in range(count))
    names = hints.classes
    if len(names) != count:
        raise UserError(f"classes: {len(names)} names for the {count} outputs of {source}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"classes: {brief(', '.join(twice[:4]))} stand twice among the names")
    return tuple(names)
