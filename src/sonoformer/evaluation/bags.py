"""All tokens of a frozen encoder over a data set, computed once and kept in half precision.

Clips differ in length, so their tokens lie one after the other in one file, which is mapped into
memory rather than read: a set may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.files import atomic
from sonoformer.nn.computing import evaluating, side_by_side

Progress = Callable[[int, int], None]
_HALF_MOST = 65504.0
# Tokens that a standard deviation is measured on, at most.
_MEASURED = 50_000


@dataclass(frozen=True, eq=False)
class Bags:
    """Tokens of clips.

    Attributes:
        values: float16 `(tokens, dim)`: clip by clip, in a clip by time, at a time by frequency.
        offsets: int64 `(clips + 1,)`; clip i has the tokens `offsets[i]` to `offsets[i + 1] - 1`.
        rows: tokens at a time (rows of the grid).
    """

    values: NDArray[np.float16]
    offsets: NDArray[np.int64]
    rows: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """Width of a token."""
        return int(self.values.shape[1])

    def columns(self, clip: int) -> NDArray[np.float16]:
        """`(time, rows x dim)` of a clip: all tokens of a time side by side."""
        part = self.values[self.offsets[clip] : self.offsets[clip + 1]]
        return part.reshape(-1, self.rows * self.dim)

    def batch(
        self,
        clips: NDArray[np.int64],
        most: int | None = None,
        random: np.random.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """float32 `(batch, tokens, dim)`, padded with zeros, and bool `(batch, tokens)`: real ones.

        Args:
            clips: the clips of the batch.
            most: of a clip with more tokens, that many are drawn; all by default.
            random: draws them.
        """
        counts = self.offsets[clips + 1] - self.offsets[clips]
        whole = counts if most is None else np.minimum(counts, most)
        x = np.zeros((len(clips), int(whole.max()), self.dim), np.float32)
        for i, clip in enumerate(clips):
            values = self.values[self.offsets[clip] : self.offsets[clip + 1]]
            if random is not None and whole[i] < counts[i]:
                values = values[random.choice(counts[i], whole[i], replace=False)]
            x[i, : whole[i]] = values[: whole[i]]
        counts = whole
        return torch.from_numpy(x), torch.arange(x.shape[1]) < torch.from_numpy(counts)[:, None]

    def scale(self, clips: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation `(dim,)` of the tokens of some clips."""
        numbers = np.concatenate([np.arange(*self.offsets[i : i + 2]) for i in np.sort(clips)])
        numbers = numbers[:: max(1, len(numbers) // _MEASURED)]
        values = self.values[numbers].astype(np.float32)
        return torch.from_numpy(values.mean(0)), torch.from_numpy(values.std(0)).clamp_min(1e-4)


def compute_bags(
    encoder: nn.Module,
    batches: Iterable[Batch],
    clips: int,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Bags:
    """Valid tokens after the final norm.

    Args:
        encoder, batches, clips, device, progress: as `features.compute_features`.
    """
    found: list[NDArray[np.float16]] = [np.zeros((0, 1), np.float16)] * clips
    device, done, rows = torch.device(device), 0, 1

    @torch.inference_mode()
    def computed(batch: Batch) -> tuple[list[int], list[NDArray[np.float16]], int]:
        here = batch.to(device)
        tokens = encoder(here.wave, here.lengths)
        grid = tokens.framewise().float().clamp(-_HALF_MOST, _HALF_MOST).half().cpu()
        real = tokens.valid_frames().cpu()
        real[:, 0] |= ~real.any(1)  # a clip shorter than a token has its beginning
        bags = [grid[i, real[i]].flatten(0, 1).numpy() for i in range(len(batch))]
        return batch.index.tolist(), bags, tokens.grid[0]

    with evaluating(encoder, device):
        for indices, bags, high in side_by_side(computed, batches, device):
            for index, bag in zip(indices, bags, strict=True):
                found[index] = bag
            rows = high
            done += len(indices)
            if progress is not None:
                progress(done, clips)
    offsets = np.cumsum([0, *(len(part) for part in found)])
    return Bags(np.concatenate([part for part in found if len(part)]), offsets, rows)


def cached_bags(folder: Path, key: str, compute: Callable[[], Bags]) -> Bags:
    """The tokens stored in `folder` under `key`, or else those that `compute` gives, stored."""
    values, index = folder / f"tokens-{key}.npy", folder / f"tokens-{key}.npz"
    stored = _stored(values, index)
    if stored is not None:
        return stored
    bags = compute()
    with atomic(values) as temporary:
        np.save(temporary, bags.values)
    with atomic(index) as temporary:
        np.savez(temporary, offsets=bags.offsets, rows=np.array(bags.rows))
    return _stored(values, index) or bags


def _stored(values: Path, index: Path) -> Bags | None:
    """None if a file is missing or damaged."""
    try:
        with np.load(index, allow_pickle=False) as table:
            offsets, rows = table["offsets"], int(table["rows"])
        mapped: Any = np.load(values, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, KeyError):
        return None
    return Bags(mapped, offsets, rows) if len(mapped) == offsets[-1] else None
