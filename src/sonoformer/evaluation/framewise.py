"""The framewise probe: classes every few milliseconds, read off tokens that come more rarely.

Features at a frame's time are interpolated linearly between the two token columns around it. A
linear classifier commutes with that, so it is applied to the columns and its logits are
interpolated: with 16 frames a column it costs a sixteenth. With a hidden layer the hidden values
are what is interpolated before the last layer, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sonoformer.errors import UserError
from sonoformer.evaluation.inner import inner_folds

# Frames that are read together; a step takes several blocks from all over the set.
_BLOCK = 256
# Columns whose spread is measured, at most.
_MEASURED = 50_000


@dataclass(frozen=True)
class FrameConfig:
    """How framewise probes are trained."""

    rates: tuple[float, ...] = (1e-3, 5e-3)
    """Learning rates to choose from."""
    epochs: int = 12
    """Passes over the frames; a third of them while choosing."""
    blocks: int = 16
    """Blocks of 256 frames a step."""
    weight_decay: float = 0.01
    """AdamW's decay of the weights."""
    folds: int = 5
    """Parts of the training recordings; the first is held out for choosing."""

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0:
            raise UserError(f"rates: each must be above 0; got {self.rates}.")
        if min(self.epochs, self.blocks) < 1:
            raise UserError("epochs, blocks: must be at least 1.")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay: must not be negative; got {self.weight_decay}.")
        if self.folds < 2:
            raise UserError(f"folds: must be at least 2; got {self.folds}.")


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames with a class each, and the columns of features around them.

    Attributes:
        columns: `(columns, dim)`, half or single precision.
        left: int64 `(frames,)`: the column at or before each frame's time; the next one is its
            other neighbour.
        share: float32 `(frames,)` in [0, 1]: weight of the next column; 0 where there is none.
        truth: int64 `(frames,)`: the class.
    """

    columns: NDArray[np.float16] | NDArray[np.float32]
    left: NDArray[np.int64]
    share: NDArray[np.float32]
    truth: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.left)

    def rows(self, keep: NDArray[np.bool_]) -> Frames:
        """Some of the frames; the columns stay."""
        return Frames(self.columns, self.left[keep], self.share[keep], self.truth[keep])

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Columns `(k, dim)` that some frames need, the places of the left ones, the shares."""
        left, share = self.left[rows], self.share[rows]
        right = np.where(share > 0, left + 1, left)
        needed, place = np.unique(np.concatenate([left, right]), return_inverse=True)
        values = torch.from_numpy(self.columns[needed].astype(np.float32))
        places = torch.from_numpy(place.reshape(2, -1))
        return values, places, torch.from_numpy(share)


def around(times: NDArray[np.float64], frames: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Left column and share of the next, for frames at given times among columns at given times.

    Frames before the first or after the last column hold that column's value.

    Args:
        times: `(columns,)` seconds, rising.
        frames: `(frames,)` seconds.
    """
    left = np.clip(np.searchsorted(times, frames, side="right") - 1, 0, len(times) - 1)
    right = np.minimum(left + 1, len(times) - 1)
    gap = np.where(right > left, times[right] - times[left], 1.0)
    share = np.clip((frames - times[left]) / gap, 0, 1) * (right > left)
    return left.astype(np.int64), share.astype(np.float32)


@dataclass(frozen=True, eq=False)
class FrameProbe:
    """A trained probe.

    Attributes:
        body: columns -> hidden values; the identity without a hidden layer.
        head: linear, hidden values -> logits.
        mean, std: `(dim,)` that columns are standardised by.
        rate: the learning rate that was chosen.
    """

    body: nn.Module
    head: nn.Linear
    mean: Tensor
    std: Tensor
    rate: float

    def logits(self, frames: Frames, rows: NDArray[np.int64]) -> Tensor:
        """`(frames, classes)` of some frames."""
        values, places, share = frames.read(rows)
        columns = self.head(self.body((values - self.mean) / self.std))
        # index_select, because the gradient of plain indexing is slow on a CPU.
        left, right = (columns.index_select(0, place) for place in places)
        return torch.lerp(left, right, share[:, None])

    @torch.inference_mode()
    def probabilities(self, frames: Frames) -> NDArray[np.float32]:
        """`(frames, classes)` in [0, 1]."""
        parts = np.array_split(np.arange(len(frames)), max(1, len(frames) // 8192))
        return torch.cat([self.logits(frames, part).softmax(1) for part in parts]).numpy()


def fit_frames(
    frames: Frames,
    classes: int,
    *,
    groups: Sequence[str] | NDArray[np.str_],
    hidden: int = 0,
    config: FrameConfig = FrameConfig(),
    seed: int = 0,
) -> FrameProbe:
    """Train by AdamW on blocks of frames; the rate is chosen on recordings held out of them.

    Args:
        frames: the training frames, recording by recording.
        classes: number of classes.
        groups: a name for each frame's recording.
        hidden: width of a hidden layer (ReLU); 0: a linear probe.
        config: the options.
        seed: of folds, weights and order.

    Raises:
        UserError: frames of fewer than two classes.
    """
    if len(np.unique(frames.truth)) < 2:
        raise UserError("the training frames hold fewer than two classes")
    rate = config.rates[0]
    if len(config.rates) > 1:
        names, number = np.unique(np.asarray(groups), return_inverse=True)
        fold = inner_folds(np.ones((len(names), 1), bool), None, config.folds, seed)[number]
        if fold.max() > 0:
            held, rest = frames.rows(fold == 0), frames.rows(fold != 0)
            epochs = max(1, config.epochs // 3)
            losses = {
                r: _loss(_train(rest, classes, hidden, r, epochs, config, seed), held)
                for r in config.rates
            }
            rate = min(losses, key=lambda r: losses[r])
    return _train(frames, classes, hidden, rate, config.epochs, config, seed)


def _train(
    frames: Frames,
    classes: int,
    hidden: int,
    rate: float,
    epochs: int,
    config: FrameConfig,
    seed: int,
) -> FrameProbe:
    """A rate that falls to zero along a half cosine."""
    used = np.unique(frames.left)
    sample = frames.columns[used[:: max(1, len(used) // _MEASURED)]].astype(np.float32)
    mean, std = torch.from_numpy(sample.mean(0)), torch.from_numpy(sample.std(0)).clamp_min(1e-4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dim = frames.columns.shape[1]
        body = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU()) if hidden else nn.Identity()
        head = nn.Linear(hidden or dim, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    probe = FrameProbe(body, head, mean, std, rate)
    weights = [*body.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, rate, weight_decay=config.weight_decay)
    blocks = np.array_split(np.arange(len(frames)), max(1, len(frames) // _BLOCK))
    steps = -(-len(blocks) // config.blocks)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps * epochs)
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(len(blocks))
        for step in range(steps):
            chosen = order[step * config.blocks : (step + 1) * config.blocks]
            rows = np.concatenate([blocks[i] for i in chosen])
            truth = torch.from_numpy(frames.truth[rows])
            loss = F.cross_entropy(probe.logits(frames, rows), truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return probe


@torch.inference_mode()
def _loss(probe: FrameProbe, frames: Frames) -> float:
    parts = np.array_split(np.arange(len(frames)), max(1, len(frames) // 8192))
    total = 0.0
    for part in parts:
        truth = torch.from_numpy(frames.truth[part])
        total += float(F.cross_entropy(probe.logits(frames, part), truth, reduction="sum"))
    return total / len(frames)
