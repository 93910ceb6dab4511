"""What the frozen part of an encoder makes of each clip, computed once and read in every epoch.

Where the head trains alone, that is a pooled vector for each clip, and an epoch is nearly free.
Where the last blocks train, it is the tokens that enter the first of these. Values lie on disk and
come as if they were sound, so that order, workers and resuming are those of every training.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.loader import EvaluationLoader
from sonoformer.data.sources import ClipSource
from sonoformer.encoders import PatchEncoder
from sonoformer.errors import AudioError, UserError
from sonoformer.evaluation.features import feature_key, pooled
from sonoformer.files import atomic
from sonoformer.nn.computing import evaluating, side_by_side
from sonoformer.nn.patches import grid_of
from sonoformer.nn.tokens import Tokens
from sonoformer.tasks.heads import PooledHead
from sonoformer.tasks.model import Model
from sonoformer.training.devices import autocast

Precision = Literal["fp32", "bf16"]
Progress = Callable[[int, int], None]
# Clips computed at once.
_BATCH = 32


@dataclass(frozen=True)
class Kept:
    """What is kept of a clip, and how a model goes on from it.

    Attributes:
        start: the first block that trains; None keeps the vector that the head hears.
        rows: of the grid of tokens.
    """

    start: int | None
    rows: int

    def of(self, model: Model, batch: Batch) -> list[NDArray[np.float32]]:
        """The values of each clip of a batch of sound, padding left out."""
        encoder, layers = model.encoder, model.config.layers
        wanted = layers if self.start is None else (self.start - 1,)
        tokens: Tokens = encoder(batch.wave, batch.lengths, layers=wanted)
        if self.start is None:
            return list(pooled(tokens, model.config.pool).float().cpu().numpy())
        x = tokens.layers[0].float()
        columns = tokens.valid_frames().sum(1).tolist()
        # By columns, so that what a batch pads lies behind everything else.
        by_time = replace(tokens, x=x).framewise().flatten(2).cpu()
        prefix = x[:, : tokens.prefix].flatten(1).cpu()
        return [
            torch.cat([prefix[i], by_time[i, :count].flatten()]).numpy()
            for i, count in enumerate(columns)
        ]

    def logits(self, model: Model, batch: Batch) -> Tensor:
        """`(batch, classes)` of a batch whose `wave` holds what was kept."""
        if self.start is None:
            return cast(PooledHead, model.head).network(batch.wave)
        encoder = cast(PatchEncoder, model.encoder)
        dim, prefix = encoder.dim, encoder.config.prefix
        head, rest = batch.wave.split([prefix * dim, batch.wave.shape[1] - prefix * dim], 1)
        by_time = rest.reshape(len(rest), -1, self.rows, dim)
        x = torch.cat([head.reshape(-1, prefix, dim), by_time.transpose(1, 2).flatten(1, 2)], 1)
        count = (batch.lengths - prefix * dim) // (self.rows * dim)
        times = by_time.shape[1]
        real = torch.arange(times, device=x.device) < count.unsqueeze(1)
        valid = real.unsqueeze(1).expand(-1, self.rows, -1).flatten(1)
        return model.head(encoder.encode(x, valid, (self.rows, times), start=self.start or 0))

    def size(self, encoder: PatchEncoder, samples: NDArray[np.int64]) -> int:
        """About how many bytes clips of so many samples take."""
        if self.start is None:
            return len(samples) * encoder.dim * self.rows * 8
        shape, tokens = encoder.config, 0
        for count, clips in zip(*np.unique(samples, return_counts=True), strict=True):
            frames = encoder.front_end.frames(int(count))
            _, times = grid_of(shape.front.n_mels, frames, shape.patch, shape.stride)
            tokens += int(clips) * (shape.prefix + self.rows * max(1, times))
        return 4 * encoder.dim * tokens


def compute_once(
    model: Model,
    adaptation: AdaptationConfig,
    wanted: Literal["auto", "on", "off"],
    parts: tuple[ClipDataset, ClipDataset | None],
    *,
    store: Path,
    scratch: Path,
    data: str,
    device: torch.device,
    precision: Precision,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> tuple[Kept, ClipDataset, ClipDataset | None] | None:
    """What batches hold in the place of sound, and the data sets that give them.

    Args:
        model: the classifier; its mode and device are given back as found.
        adaptation: which weights train.
        wanted: see `FinetuneConfig.frozen_cache`.
        parts: the clips of training, and those of validation.
        store: folder of vectors, which later trainings find again.
        scratch: folder of tokens, which take more room.
        data: fingerprint of the clips.
        device, precision: how to compute, as in training.
        say: takes a line for the user.
        progress: called with (clips done, clips in all).

    Returns:
        None where training has to hear the sound.

    Raises:
        UserError: `wanted` is on and training has to hear the sound.
    """
    if wanted == "off":
        return None
    kept = kept_of(cast(PatchEncoder, model.encoder), adaptation)
    folder = store if kept.start is None else scratch
    reason = obstacle(model, adaptation, parts[0], folder, kept)
    if reason is not None:
        if wanted == "on":
            raise UserError(f"frozen_cache: {reason}; leave it at auto, or change that")
        if adaptation.weights != "full":
            say(f"the frozen part is computed anew in every epoch: {reason}")
        return None
    found = [
        clips
        and with_values(
            clips,
            model,
            kept,
            folder,
            data=f"{part} {data}",
            device=device,
            precision=precision,
            progress=progress,
        )
        for part, clips in zip(("train", "validation"), parts, strict=True)
    ]
    say(f"the frozen part is computed once for each of {len(parts[0])} clips")
    assert found[0] is not None
    return kept, found[0], found[1]


def kept_of(encoder: PatchEncoder, adaptation: AdaptationConfig) -> Kept:
    """What may be kept of clips; `obstacle` says whether anything may."""
    first = encoder.depth - adaptation.blocks
    shape = encoder.config
    rows, _ = grid_of(shape.front.n_mels, shape.patch[1], shape.patch, shape.stride)
    return Kept(None if adaptation.weights == "head" else first, rows)


def obstacle(
    model: Model, adaptation: AdaptationConfig, dataset: ClipDataset, folder: Path, kept: Kept
) -> str | None:
    """Why the frozen part cannot be computed once; None if it can.

    Args:
        model: the classifier.
        adaptation: which weights train.
        dataset: the training clips, with their crops and augmentation.
        folder: where the values would lie.
        kept: what would be kept.
    """
    encoder = cast(PatchEncoder, model.encoder)
    if model.adapted is not None:
        return f"method {model.adapted.method} trains weights in every block"
    if adaptation.weights == "full" or (kept.start is not None and kept.start < 1):
        return "every block trains"
    if not isinstance(model.head, PooledHead) or (kept.start and model.config.layers):
        return "the head hears more than one vector a clip, or blocks that are frozen"
    if encoder.config.drop_path:
        return "drop_path leaves blocks out at random"
    if dataset.augment.changes:
        return "the clips are augmented"
    if dataset.crops == "random" and (dataset.source.lengths > dataset.lengths).any():
        return "clips longer than --seconds are cropped at random"
    size, free = kept.size(encoder, dataset.lengths), _free(folder)
    if size > free / 2:
        return f"{size / 1e9:.1f} GB are too much for {folder}, where {free / 1e9:.1f} GB are free"
    return None


class StoredValues:
    """Values of clips as a source (`ClipSource`), read from disk as they are asked for.

    Args:
        path: float32 values, clip after clip.
        index: `(2, clips)` where each clip's values begin, and how many they are.
        source: the clips, for their names and lengths.
    """

    def __init__(self, path: Path, index: NDArray[np.int64], source: ClipSource) -> None:
        self.path, self.begin, self.source = path, index[0], source
        self.lengths: np.ndarray = index[1]
        # Values a second, so that lengths stay a measure of time.
        seconds = max(1, int(source.lengths.sum())) / source.sample_rate
        self.sample_rate = max(1, round(int(index[1].sum()) / seconds))
        self._values: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        """The clip's recording."""
        return self.source.name(index)

    def read(self, index: int, start: int, count: int) -> NDArray[np.float32]:
        """As `ClipSource.read`."""
        if not self.lengths[index]:
            raise AudioError(self.name(index), "could not be read when features were computed")
        if self._values is None:
            self._values = np.memmap(self.path, np.float32, mode="r")
        first = int(self.begin[index]) + start
        return np.array(self._values[first : first + count])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None}


def with_values(
    dataset: ClipDataset,
    model: Model,
    kept: Kept,
    folder: Path,
    *,
    data: str,
    device: torch.device,
    precision: Precision,
    progress: Progress | None = None,
) -> ClipDataset:
    """The data set with values in the place of sound, computed or found in `folder`.

    Args:
        dataset: clips of which none is cropped at random or augmented.
        model: the classifier; its mode and device are given back as found.
        kept: what is kept.
        folder: where values lie.
        data: fingerprint of the clips.
        device, precision: how to compute, as in training.
        progress: called with (clips done, clips in all).
    """
    cut = f"{data} {dataset.crop} {dataset.crops} {kept} {precision} {len(dataset)}"
    name = feature_key(model.encoder, cut, model.config.pool, model.config.layers)
    path = folder / f"frozen-{name}.values"
    index = _index(path, len(dataset))
    if index is None:
        index = _write(path, dataset, model, kept, device, precision, progress)
    found = copy.copy(dataset)
    found.source, found.crop = StoredValues(path, index, dataset.source), None
    return found


def digest(rows: NDArray[np.int64]) -> str:
    """A short name of row numbers."""
    return hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=8).hexdigest()


def _index(path: Path, clips: int) -> NDArray[np.int64] | None:
    """Where each clip's values are, if they are all there."""
    try:
        index = np.load(path.with_suffix(".npy"), allow_pickle=False)
        whole = index.shape == (2, clips) and path.stat().st_size == 4 * int(index[1].sum())
    except (OSError, ValueError, EOFError):
        return None
    return index.astype(np.int64) if whole else None


def _write(
    path: Path,
    dataset: ClipDataset,
    model: Model,
    kept: Kept,
    device: torch.device,
    precision: Precision,
    progress: Progress | None,
) -> NDArray[np.int64]:
    """Compute all clips, those of like length together; `_index` of what was written."""
    heard = copy.copy(dataset)
    heard.train = False
    index = np.zeros((2, len(dataset)), np.int64)
    done = written = 0
    with atomic(path) as temporary, open(temporary, "wb") as file:
        for row, values in _values(model, kept, EvaluationLoader(heard, _BATCH), device, precision):
            index[:, row] = written, len(values)
            values.astype(np.float32).tofile(file)
            written, done = written + len(values), done + 1
            if progress is not None:
                progress(done, len(dataset))
        file.flush()
    with atomic(path.with_suffix(".npy")) as temporary:
        np.save(temporary, index)
    return index


def _values(
    model: Model,
    kept: Kept,
    batches: EvaluationLoader,
    device: torch.device,
    precision: Precision,
) -> Iterator[tuple[int, NDArray[np.float32]]]:

    def computed(batch: Batch) -> tuple[list[int], list[NDArray[np.float32]]]:
        with torch.inference_mode(), autocast(precision, device):
            return batch.index.tolist(), kept.of(model, batch.to(device))

    with evaluating(model, device):
        for rows, found in side_by_side(computed, batches, device):
            yield from zip(rows, found, strict=True)


def _free(folder: Path) -> int:
    """Bytes free where `folder` is or will be."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free
