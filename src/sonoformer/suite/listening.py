"""What a frozen encoder makes of a task's clips: computed once, kept, and found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sonoformer.data.dataset import ClipDataset
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.sources import ClipSource
from sonoformer.data.views import Windows
from sonoformer.errors import UserError
from sonoformer.evaluation.bags import Bags, cached_bags, compute_bags
from sonoformer.evaluation.features import cached_features, compute_features, feature_key
from sonoformer.nn.tokens import Pooling
from sonoformer.suite.config import SuiteConfig

Matrix = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Listener:
    """A frozen encoder before some clips.

    Attributes:
        encoder: an `nn.tokens.Encoder`.
        source: the clips.
        data: fingerprint of the clips.
        config: the options.
        folder: where features are kept.
        device: where they are computed.
        progress: called with (done, in all).
    """

    encoder: nn.Module
    source: ClipSource
    data: str
    config: SuiteConfig
    folder: Path
    device: torch.device
    progress: Progress | None = None

    @cached_property
    def pooled(self) -> Matrix:
        """`(clips, dim)`; a long clip's is the mean over its windows."""
        return self._features(self.config.pool, None)

    @cached_property
    def layers(self) -> Matrix:
        """`(clips, blocks, dim)` pooled outputs of all blocks."""
        model: Any = self.encoder
        depth = int(model.depth)
        flat = self._features(self.config.layer_pool, tuple(range(depth)))
        return flat.reshape(len(flat), depth, -1)

    @cached_property
    def bags(self) -> Bags:
        """All tokens of each clip, those of a long clip's windows one after the other."""
        windows = self._windows()
        found = token_bags(self, windows, f"{self.data} {self.config.seconds}")
        ends = np.cumsum(np.bincount(windows.rows, minlength=len(self.source)))
        return Bags(found.values, found.offsets[np.concatenate([[0], ends])], found.rows)

    def _windows(self) -> Windows:
        model: Any = self.encoder
        return Windows(self.source, max(1, round(self.config.seconds * model.sample_rate)))

    def _features(self, pool: Pooling, layers: tuple[int, ...] | None) -> Matrix:
        windows = self._windows()

        def compute() -> Matrix:
            return compute_features(
                self.encoder,
                batches(windows, self.config),
                len(windows),
                device=self.device,
                pool=pool,
                layers=layers,
                progress=self.progress,
            )

        name = feature_key(self.encoder, f"{self.data} {self.config.seconds}", pool, layers)
        found = windows.means(cached_features(self.folder, name, compute))
        bad = np.flatnonzero(~np.isfinite(found).all(1))
        if len(bad):
            raise UserError(
                f"{self.source.name(int(bad[0]))}: the encoder gives no finite features for it and "
                f"{len(bad) - 1} other clips; its training diverged"
            )
        return found


def token_bags(listener: Listener, source: ClipSource, data: str) -> Bags:
    """All tokens of the items of `source`.

    Raises:
        UserError: tokens that are not finite.
    """

    def compute() -> Bags:
        found = compute_bags(
            listener.encoder,
            batches(source, listener.config),
            len(source),
            device=listener.device,
            progress=listener.progress,
        )
        if not np.isfinite(found.values).all():
            raise UserError("the encoder gives tokens that are not finite; its training diverged")
        return found

    return cached_bags(listener.folder, feature_key(listener.encoder, data, "mean"), compute)


def batches(source: ClipSource, config: SuiteConfig) -> EvaluationLoader:
    """Every item once."""
    return EvaluationLoader(ClipDataset(source, crop=None, seed=0, train=False), config.batch_size)
