"""Features: in the data set's order whatever the batches, by layer, kept under a true key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sonoformer.data.batch import Batch
from sonoformer.evaluation.features import (
    cached_features,
    compute_features,
    feature_key,
    pooled,
)
from sonoformer.nn.tokens import Tokens


class Encoder(nn.Module):
    """Two prefix tokens, then a token a sample; each block adds one."""

    dim, depth = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.drop = nn.Dropout(0.5)

    def forward(self, wave, lengths=None, layers=None):  # type: ignore[no-untyped-def]
        x = self.drop(wave.unsqueeze(-1) * self.scale)
        x = torch.cat([torch.full_like(x[:, :2], 100), x], 1)
        lengths = torch.full((len(wave),), wave.shape[1]) if lengths is None else lengths
        valid = torch.arange(wave.shape[1]) < lengths[:, None]
        outputs = tuple(x + 1 + i for i in layers or ())
        return Tokens(x, (1, wave.shape[1]), 2, valid, 0.1, outputs)


def batches(waves: list[np.ndarray], order: list[int], size: int = 2) -> list[Batch]:
    made = []
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        longest = max(len(waves[r]) for r in rows)
        wave = torch.zeros(len(rows), longest)
        for place, row in enumerate(rows):
            wave[place, : len(waves[row])] = torch.from_numpy(waves[row])
        lengths = torch.tensor([len(waves[r]) for r in rows])
        made.append(Batch(wave=wave, lengths=lengths, index=torch.tensor(rows)))
    return made


WAVES = [np.full(n, float(n), np.float32) for n in (3, 5, 2, 4, 7)]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]])
def test_rows_follow_the_data_set_and_ignore_padding(order: list[int]) -> None:
    encoder = Encoder().train()
    seen = []
    features = compute_features(
        encoder, batches(WAVES, order), 5, progress=lambda done, total: seen.append((done, total))
    )
    assert features.dtype == np.float32
    assert features.tolist() == [[3, 3], [5, 5], [2, 2], [4, 4], [7, 7]]
    assert seen[-1] == (5, 5)
    assert encoder.training  # given back as it was, and dropout was off meanwhile


def test_layers_are_pooled_one_by_one() -> None:
    features = compute_features(Encoder(), batches(WAVES, [0, 1, 2, 3, 4]), 5, layers=(0, 2))
    assert features[0].tolist() == [4, 4, 6, 6]
    tokens = Encoder().eval()(torch.ones(1, 3), None, layers=(1,))
    assert pooled(tokens, "cls").tolist() == [[102, 102]]


def test_cached_features_are_computed_once_and_again_when_broken(tmp_path: Path) -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.arange(6, dtype=np.float32).reshape(2, 3)

    first = cached_features(tmp_path, "abc", compute)
    assert (cached_features(tmp_path, "abc", compute) == first).all()
    assert len(calls) == 1
    (tmp_path / "features-abc.npy").write_bytes(b"\x93NUMPY broken")
    assert (cached_features(tmp_path, "abc", compute) == first).all()
    assert len(calls) == 2


def test_key_changes_with_all_that_changes_the_features() -> None:
    encoder = Encoder()
    keys = [feature_key(encoder, "data", "mean"), feature_key(encoder, "data", "cls")]
    keys += [feature_key(encoder, "other", "mean"), feature_key(encoder, "data", "mean", (1,))]
    assert feature_key(encoder, "data", "mean") == keys[0]
    with torch.no_grad():
        encoder.scale[0] = 2
    keys.append(feature_key(encoder, "data", "mean"))
    assert len(set(keys)) == 5
