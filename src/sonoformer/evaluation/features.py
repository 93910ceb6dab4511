"""Pooled features of a frozen encoder over a data set, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.files import atomic
from sonoformer.nn.computing import evaluating, side_by_side
from sonoformer.nn.tokens import Pooling, Tokens
from sonoformer.settings import to_yaml

Progress = Callable[[int, int], None]


def pooled(tokens: Tokens, pool: Pooling = "mean") -> Tensor:
    """One vector a clip; see `Tokens.pool` for the pooling.

    Without `tokens.layers` the tokens after the final norm are pooled, else the outputs of the
    blocks, each pooled by itself and put one after another.
    """
    if not tokens.layers:
        return tokens.pool(pool)
    return torch.cat([replace(tokens, x=x, layers=()).pool(pool) for x in tokens.layers], dim=1)


def compute_features(
    encoder: nn.Module,
    batches: Iterable[Batch],
    clips: int,
    *,
    device: torch.device | str = "cpu",
    pool: Pooling = "mean",
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """`(clips, dim)` features in the data set's own order.

    Args:
        encoder: an encoder (see `nn.tokens.Encoder`); its mode and device are given back as found.
        batches: every clip once, in any order, such as `data.loader.evaluation_loader` gives.
        clips: how many clips the data set has.
        device: where to compute.
        pool: which tokens are averaged, see `Tokens.pool`.
        layers: blocks, from 0, whose outputs are taken instead of the final norm's.
        progress: called with (clips done, clips in all).
    """
    features: NDArray[np.float32] | None = None
    device, done = torch.device(device), 0

    @torch.inference_mode()
    def computed(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        here = batch.to(device)
        tokens = encoder(here.wave, here.lengths, layers=layers)
        return batch.index.numpy(), pooled(tokens, pool).float().cpu().numpy()

    with evaluating(encoder, device):
        for index, part in side_by_side(computed, batches, device):
            if features is None:
                features = np.full((clips, part.shape[1]), np.nan, np.float32)
            features[index] = part
            done += len(index)
            if progress is not None:
                progress(done, clips)
    if features is None:
        raise ValueError("no batches")
    return features


def cached_features(
    folder: Path, key: str, compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The features stored in `folder` under `key`, or else those that `compute` gives, stored.

    A file that cannot be read (a killed process, another format) is computed again.
    """
    path = folder / f"features-{key}.npy"
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError, EOFError):
        pass
    features = compute()
    with atomic(path) as temporary:
        np.save(temporary, features)
    return features


def feature_key(
    encoder: nn.Module, data: str, pool: Pooling, layers: Sequence[int] | None = None
) -> str:
    """A name that changes with the encoder's weights and options, the data, and the pooling.

    Args:
        encoder: the encoder.
        data: fingerprint of the clips.
        pool, layers: as `compute_features`.
    """
    digest = hashlib.blake2b(digest_size=12)
    config = getattr(encoder, "config", None)
    digest.update(repr((data, pool, tuple(layers or ()))).encode())
    digest.update(to_yaml(config).encode() if config is not None else b"")
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
