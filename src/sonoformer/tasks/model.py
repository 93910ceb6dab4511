"""A trained classifier: front end, encoder, head, classes and thresholds, in one folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl
import torch
from torch import Tensor, nn

from sonoformer.encoders import (
    PatchEncoder,
    is_published,
    read_hints,
    read_published,
    save_encoder,
)
from sonoformer.encoders.published import Profile, Published
from sonoformer.errors import UserError
from sonoformer.files import read_json
from sonoformer.nn.computing import evaluating
from sonoformer.settings import build, plain
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.adapted import Adapted, read_adapted
from sonoformer.tasks.heads import HeadConfig, PooledHead, build_head, wanted_layers
from sonoformer.weights import assign, is_checkpoint

if TYPE_CHECKING:
    from sonoformer.tasks.detection.model import Detector

_LARGEST = sys.float_info.max


class Model(nn.Module):
    """Waveforms -> scores of classes.

    Args:
        encoder: an encoder (see `nn.tokens.Encoder`).
        classes: names, in the order of the scores.
        config: the head.
        thresholds: score from which a class counts as present; 0.5 for each by default.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: Sequence[str],
        config: HeadConfig = HeadConfig(),
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.config, self.classes = encoder, config, tuple(classes)
        self.head = build_head(encoder, len(self.classes), config)
        self.adapted: Adapted | None = None
        self.thresholds = tuple(thresholds) if thresholds else (0.5,) * len(self.classes)
        self._layers = wanted_layers(encoder, config)

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that it takes."""
        return int(self.encoder.sample_rate)  # type: ignore[arg-type]

    @property
    def front(self) -> FbankConfig:
        """How it hears."""
        return cast(PatchEncoder, self.encoder).front_end.config

    @property
    def single(self) -> bool:
        """Whether exactly one class is right for a clip."""
        return self.config.single

    @property
    def softmax(self) -> bool:
        """Whether scores sum to 1 over the classes."""
        return self.config.softmax

    def logits(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Waveforms `(batch, samples)` or spectrograms `(batch, frames, bins)` ->
        `(batch, classes)`; `lengths` counts samples or frames, as `audio` does."""
        if isinstance(self.head, PooledHead) and self._layers is None:
            vectors = self.encoder.pooled(audio, lengths, self.head.pool)  # type: ignore[operator]
            return self.head.network(vectors)
        return self.head(self.encoder(audio, lengths, layers=self._layers))

    def scores(self, logits: Tensor) -> Tensor:
        """Logits `(batch, classes)` -> scores in [0, 1], fp32."""
        logits = logits.float()
        return logits.softmax(1) if self.softmax else logits.sigmoid()

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `logits`, then `scores`."""
        return self.scores(self.logits(audio, lengths))

    @torch.inference_mode()
    def predict_waveforms(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Waveforms `(batch, samples)` in [-1, 1] at `sample_rate`, lengths in samples -> scores
        `(batch, classes)` on the CPU. Computed where the model is, as in evaluation mode."""
        device = next(self.parameters()).device
        with evaluating(self):
            lengths = None if lengths is None else lengths.to(device)
            return self(wave.to(device), lengths).cpu()

    def predict(self, paths: Sequence[str | Path] | str | Path, **options: Any) -> pl.DataFrame:
        """Scores of every window of recordings: a row a window, a column a class.

        Args:
            paths: files, folders or patterns.
            options: of `inference.Settings`: `window`, `overlap` (of 1), `batch_size`, `channel`.

        Returns:
            Columns `path, start, end, clock`, then the classes. Recordings that cannot be read are
            left out with a warning; for recordings that do not fit into memory as a table, use
            `tasks.prediction.predict`, which leaves its rows on disk.

        Raises:
            UserError: nothing there, or nothing that can be read.
        """
        from sonoformer.tasks.prediction import predict_table

        return predict_table(self, [paths] if isinstance(paths, str | Path) else paths, **options)

    def save(self, folder: str | Path, card: str = "", **facts: Any) -> Path:
        """Write the model as a checkpoint folder that `load_model` reads.

        Of an encoder adapted by a few weights only these are written, and which encoder they need.

        Args:
            folder: where; an older checkpoint there is replaced.
            card: text of its README: what it was trained on, and its scores.
            facts: further plain values for `config.json`.
        """
        extra = {
            "head": plain(self.config),
            "classes": list(self.classes),
            "thresholds": list(self.thresholds),
            **facts,
        }
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        only = None
        # A merged encoder is a whole one again.
        if self.adapted is not None and getattr(self.encoder, "adapted", None) is not None:
            extra["adapted"], only = self.adapted.to_dict(), self.adapted.names
        return save_encoder(self.encoder, folder, card, extra=extra, tensors=tensors, only=only)


def load_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    *,
    base: str | Path | nn.Module | None = None,
    **hints: Any,
) -> Model:
    """The classifier or detector in a checkpoint folder, in a run of `finetune`, or in a published
    checkpoint (a file of the AST or SSAST programs, or a folder of transformers); in evaluation
    mode.

    Args:
        path: the checkpoint.
        device: where to put it.
        base: the encoder that an adapted one needs, or its checkpoint; the one that it was trained
            on if absent. A module is shared by all models that are loaded on it.
        hints: what a published file does not say: `stride`, `pool`, `task`, `statistics`,
            `classes`, `profile`; see `encoders.published.Hints`.

    Raises:
        UserError: there is none, or its files are damaged or do not fit each other.
    """
    given = read_hints(path, hints)
    if is_published(path):
        return published_model(read_published(path, given), given.profile).to(device)
    folder = model_folder(path)
    encoder, rest, config, record = read_adapted(folder, base)
    if "head" not in config or not config.get("classes"):
        raise UserError(
            f"{folder}: holds an encoder but no classifier; `sonoformer embed` gives its features, "
            "`sonoformer finetune` makes a classifier of it"
        )
    source = f"{folder}/config.json"
    head = build(HeadConfig, config["head"], source)
    classes, thresholds = _lists(config, source)
    own = {name.removeprefix("head."): value for name, value in rest.items()}
    model = _assembled(encoder, classes, head, thresholds, own, str(folder))
    model.adapted = record
    if head.frames is not None:
        cast("Detector", model).take_up(config.get("detection", {}), source)
    return model.to(device)


def published_model(found: Published, profile: Profile = "auto") -> Model:
    """The classifier of a published checkpoint, in evaluation mode.

    Raises:
        UserError: it has none, or hints are missing that its file does not make up for.
    """
    head = found.classifier()
    assert head.pool is not None
    assert head.single is not None
    try:
        config = HeadConfig(
            pool=head.pool, single=head.single, softmax=head.single, norm_eps=head.norm_eps
        )
    except UserError as error:
        raise UserError(f"{found.source}: {error}") from None
    own = {f"network.{name}": value for name, value in head.tensors.items()}
    encoder = found.make_encoder(profile, classifier=True)
    return _assembled(encoder, head.classes, config, None, own, found.source)


def _lists(config: dict[str, Any], source: str) -> tuple[list[str], list[float] | None]:
    """Classes and thresholds of a `config.json`, checked."""
    classes, thresholds = config["classes"], config.get("thresholds")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{source}: classes should be a list of names")
    if thresholds is None:
        return classes, None
    if not isinstance(thresholds, list) or not all(
        isinstance(value, int | float) and abs(value) <= _LARGEST for value in thresholds
    ):
        raise UserError(f"{source}: thresholds should be a list of numbers")
    if len(thresholds) != len(classes):
        raise UserError(f"{source}: {len(thresholds)} thresholds for {len(classes)} classes")
    return classes, thresholds


def _assembled(
    encoder: nn.Module,
    classes: Sequence[str],
    config: HeadConfig,
    thresholds: Sequence[float] | None,
    head: dict[str, Tensor],
    source: str,
) -> Model:
    from sonoformer.tasks.detection.model import made

    try:
        model = made(encoder, classes, config, thresholds)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    assign(model.head, head, source)
    return model.eval()


def model_folder(path: str | Path) -> Path:
    """The checkpoint folder that `path` means: itself, or the `model` folder of a run.

    Raises:
        UserError: neither is there, or several models of a cross-validation are.
    """
    path = Path(path)
    for folder in (path, path / "model"):
        if is_checkpoint(folder):
            return folder
    if not path.exists():
        raise UserError(f"{path}: no such folder; name a run of finetune or its model folder")
    several = sorted(folder.parent.name for folder in path.glob("*/model") if is_checkpoint(folder))
    if several:
        raise UserError(
            f"{path}: holds {len(several)} models ({', '.join(several[:6])}); choose one, such as "
            f"{path / several[0]}"
        )
    state = read_json(path / "run.json").get("status") if (path / "run.json").is_file() else None
    hint = f" (its run is {state})" if state else ""
    raise UserError(f"{path}: holds no model{hint}; a finished `sonoformer finetune` leaves one")
