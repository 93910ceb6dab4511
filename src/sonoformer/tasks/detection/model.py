"""A trained detector: encoder, frame head, classes, and how scores become events, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoformer.encoders.columns import ColumnGrid
from sonoformer.errors import UserError
from sonoformer.evaluation.events.calibration import Calibration
from sonoformer.evaluation.events.post import PostConfig
from sonoformer.nn.computing import evaluating
from sonoformer.settings import build, plain
from sonoformer.tasks.detection.heads import FrameHead, Frames
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model

SAVED = "detection"
"""What a detector adds to `config.json`."""


class Detector(Model):
    """Waveforms -> scores of classes for every token column; and for whole clips, as any `Model`.

    Args:
        encoder, classes, config, thresholds: as `Model`; the head is one of `frames_...`.

    Attributes:
        grid: where the columns lie in time.
        seconds: the stretch that it was trained to see at once.
        calibration: what is done to frame scores so that they are probabilities.
        post: how calibrated frame scores become events.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: Sequence[str],
        config: HeadConfig = HeadConfig("frames_mean", single=False, softmax=False),
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__(encoder, classes, config, thresholds)
        if not isinstance(self.head, FrameHead):
            raise UserError(f"head: {config.kind} gives no frames; a detector has frames_...")
        self.grid = ColumnGrid.of(encoder)
        self.seconds = 10.0
        self.calibration = Calibration()
        self.post = PostConfig()

    def frames(self, audio: Tensor, lengths: Tensor | None = None) -> Frames:
        """Waveforms `(batch, samples)` or spectrograms `(batch, frames, bins)` -> `Frames`;
        `lengths` counts samples or frames, as `audio` does."""
        return self.head(self.encoder(audio, lengths, layers=self._layers))

    def logits(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `frames`, then `Frames.clip`: `(batch, classes)`."""
        return self.frames(audio, lengths).clip()

    @torch.inference_mode()
    def frame_logits(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Waveforms `(batch, samples)` in [-1, 1] at `sample_rate` -> logits
        `(batch, columns, classes)`, and of head `full` those of each token
        `(batch, columns, rows, classes)` (else of no row); fp32 on the CPU, in evaluation mode."""
        device = next(self.parameters()).device
        with evaluating(self):
            lengths = None if lengths is None else lengths.to(device)
            found = self.frames(wave.to(device), lengths)
        cells = found.logits.unsqueeze(2)[:, :, :0] if found.cells is None else found.cells
        return found.logits.float().cpu(), cells.float().cpu()

    def frame_scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits `(frames, classes)` -> calibrated scores in [0, 1]."""
        scores = torch.from_numpy(logits).sigmoid().numpy()
        return self.calibration.apply(scores, self.classes)

    def detect(self, paths: Sequence[str | Path] | str | Path, **options: Any) -> pl.DataFrame:
        """The events in recordings of any length, as a table with the columns of
        `data.events.EVENTS`.

        Args:
            paths: files, folders or patterns.
            options: of `tasks.detection.listen.DetectConfig`: `window`, `overlap`, `join`,
                `channel`, `batch_size`, ...

        Raises:
            UserError: nothing there, or nothing that can be read. Single recordings that cannot be
                read are left out with a warning.
        """
        from sonoformer.tasks.detection.listen import detect_table

        return detect_table(self, [paths] if isinstance(paths, str | Path) else paths, **options)

    def save(self, folder: str | Path, card: str = "", **facts: Any) -> Path:
        """As `Model.save`."""
        own = {
            "seconds": self.seconds,
            "calibration": plain(self.calibration),
            "post": plain(self.post),
        }
        return super().save(folder, card, **{SAVED: own, **facts})

    def take_up(self, saved: Any, source: str) -> None:
        """What `save` wrote beside the weights.

        Raises:
            UserError: it is damaged.
        """
        seconds = saved.get("seconds") if isinstance(saved, dict) else None
        if not isinstance(seconds, int | float) or not 0 < seconds <= 1e6:
            raise UserError(f"{source}: {SAVED} should hold seconds, a number above 0")
        self.seconds = float(seconds)
        found = saved.get("calibration", {})
        self.calibration = build(Calibration, found, f"{source}: calibration")
        self.post = build(PostConfig, saved.get("post", {}), f"{source}: post")


def made(
    encoder: nn.Module,
    classes: Sequence[str],
    config: HeadConfig,
    thresholds: Sequence[float] | None = None,
) -> Model:
    """A model with that head: a `Detector` where it gives frames."""
    kind = Model if config.frames is None else Detector
    return kind(encoder, classes, config, thresholds)


def start_from(head: FrameHead, classes: Sequence[str], other: Model) -> list[str]:
    """Give a head the rows of another detector's for the classes that both know.

    Args:
        head: changed in place.
        classes: its classes.
        other: the detector to take from.

    Returns:
        The classes taken over; none if the heads are of different kinds or widths.
    """
    theirs = other.head
    if not isinstance(theirs, FrameHead) or theirs.kind != head.kind:
        return []
    if theirs.network.in_features != head.network.in_features:
        return []
    shared = [name for name in classes if name in other.classes]
    both = head.network.out_features > head.classes and theirs.network.out_features > theirs.classes
    with torch.no_grad():
        for name in shared:
            here, there = list(classes).index(name), other.classes.index(name)
            rows = [(here, there)] + [(here + head.classes, there + theirs.classes)] * both
            for own, given in rows:
                head.network.weight[own] = theirs.network.weight[given]
                head.network.bias[own] = theirs.network.bias[given]
    return shared
