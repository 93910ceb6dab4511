"""A small convolutional network on a detector's spectrograms and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.keys import key
from sonoformer.encoders.fronted import Fronted
from sonoformer.nn.tokens import Patches, Tokens
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.lesson import strong_lesson
from sonoformer.tasks.detection.model import Detector
from sonoformer.training import fit
from sonoformer.training.config import OptimiserConfig, ScheduleConfig

_WIDTHS = (16, 32, 48)
_POOL = 4  # bins that become one after each convolution
_RATE = 3e-3


@dataclass(frozen=True)
class CnnConfig:
    """What says where the columns of the network lie.

    Attributes:
        front: how it hears.
        patch, stride: bins and frames of a column, and from one to the next.
    """

    front: FbankConfig
    patch: tuple[int, int]
    stride: tuple[int, int]


class ColumnCnn(Fronted):
    """Three convolutions over time and frequency, a mean over each column's frames, and two
    convolutions over columns; 33,000 weights. It stands where a detector has its encoder.

    Args:
        config: front end and columns.
    """

    order_matters = True
    depth = 2
    dim = _WIDTHS[-1]

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        stages, width = [], 1
        for wide in _WIDTHS:
            stages.append(
                nn.Sequential(
                    nn.Conv2d(width, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)
                )
            )
            width = wide
        self.stages = nn.ModuleList(stages)
        self.blocks = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=step, dilation=step) for step in (1, 2)
        )

    def patches(self, spec: Tensor, lengths: Tensor | None = None) -> Patches:
        """The grid: one row of columns; `pixels` is the spectrogram itself."""
        return Patches(spec, *self.tokens_of(spec, lengths))

    def forward(
        self, audio: Tensor, lengths: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Tokens:
        """Waveform `(batch, samples)` or spectrogram `(batch, frames, bins)` -> `Tokens`, a column
        each; `layers` has no meaning here."""
        spec, frames = (audio, lengths) if audio.ndim == 3 else self.front(audio, lengths)
        grid, valid = self.tokens_of(spec, frames)
        patch, stride = self.config.patch[1], self.config.stride[1]
        real = _real(spec, frames)
        x = (spec * real[..., None]).unsqueeze(1)
        for stage in self.stages:
            x = F.avg_pool2d(F.relu(stage(x)), (1, _POOL), ceil_mode=True)
            # What lies past a clip's end must not be heard through the next convolution.
            x = x * real[:, None, :, None]
        x = F.pad(x.mean(3), (0, max(0, patch - x.shape[2])))
        x = F.avg_pool1d(x, patch, stride)[:, :, : grid[1]] * valid[:, None]
        for block in self.blocks:
            x = (x + F.relu(block(x))) * valid[:, None]
        return Tokens(x.transpose(1, 2), grid, 0, valid, self.seconds_per_token)


def _real(spec: Tensor, frames: Tensor | None) -> Tensor:
    """`(batch, frames)` 1 where a frame is sound."""
    if frames is None:
        return spec.new_ones(spec.shape[:2])
    places = torch.arange(spec.shape[1], device=spec.device)
    return (places < frames.to(spec.device).unsqueeze(1)).to(spec.dtype)


def fit_cnn(
    model: Detector,
    train: Clips,
    validation: Clips | None,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int,
    device: str,
    resume: bool = False,
    bar: bool | None = None,
) -> Detector:
    """Train the network from random weights on the detector's crops, as long as the detector.

    Args:
        model: the detector whose spectrograms, columns and classes it takes.
        train, validation: the recordings.
        config: the detector's options; all that is about its encoder is left out.
        run: a folder of its own.
        seed: of weights, crops and augmentation.
        device: where to train.
        resume: continue the run.
        bar: show a progress bar; on a terminal only by default.
    """
    grid = model.grid
    bins = grid.front.n_mels
    shape = CnnConfig(grid.front, (bins, grid.patch), (bins, grid.stride))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "cnn"))
        network = Detector(ColumnCnn(shape), model.classes)
    config = cnn_config(config)
    lesson = strong_lesson(network, train, validation, config, seed)
    fit(
        lesson.learner,
        lesson.data,
        lesson.validation,
        config.train,
        run,
        seed=seed,
        device=device,
        resume=resume,
        progress=bar,
    )
    return network.eval()


def cnn_config(config: FinetuneConfig) -> FinetuneConfig:
    """A detector's options as the network is trained by them."""
    optimiser = OptimiserConfig(name="adamw", lr=_RATE, weight_decay=0.01)
    schedule = ScheduleConfig(name="cosine", warmup_steps=0)
    return replace(
        config,
        method="train",
        adaptation=AdaptationConfig(),
        classifier=ClassifierConfig(
            task="events", label_smoothing=config.classifier.label_smoothing
        ),
        events=replace(config.events, head="mean"),
        train=replace(config.train, optimiser=optimiser, schedule=schedule),
    )
