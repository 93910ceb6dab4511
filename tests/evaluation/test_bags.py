"""Tokens of clips, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sonoformer.data.batch import Batch
from sonoformer.encoders import AstConfig, AstEncoder
from sonoformer.evaluation.bags import Bags, cached_bags, compute_bags


@pytest.fixture(scope="module")
def encoder() -> AstEncoder:
    torch.manual_seed(0)
    return AstEncoder(AstConfig(dim=24, depth=2, heads=2)).eval()


def waves() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(n, generator=rng) for n in (16000, 5000, 700, 24000)]


def batch(rows: list[int]) -> Batch:
    found = [waves()[row] for row in rows]
    lengths = torch.tensor([len(w) for w in found])
    return Batch(torch.nn.utils.rnn.pad_sequence(found, True), lengths, torch.tensor(rows))


def test_tokens_are_those_of_each_clip_alone(encoder: AstEncoder) -> None:
    bags = compute_bags(encoder, [batch([2, 0]), batch([3, 1])], 4)
    assert len(bags) == 4
    assert bags.rows == 8
    for row, wave in enumerate(waves()):
        with torch.no_grad():
            alone = encoder(wave[None])
        columns = alone.framewise()[0, alone.valid_frames()[0]].flatten(1)
        assert bags.columns(row).shape == columns.shape
        assert np.abs(bags.columns(row) - columns.numpy()).max() < 5e-3


def test_batches_are_padded_and_masked(encoder: AstEncoder) -> None:
    bags = compute_bags(encoder, [batch([0, 1, 2, 3])], 4)
    x, real = bags.batch(np.array([2, 0]))
    assert real.sum(1).tolist() == [8, 8 * 6]
    assert (x[0, 8:] == 0).all()
    assert np.array_equal(x[0, :8].numpy(), bags.values[bags.offsets[2] : bags.offsets[3]])
    few, kept = bags.batch(np.array([2, 0]), 10, np.random.default_rng(0))
    assert (few.shape[1], kept.sum(1).tolist()) == (10, [8, 10])
    own = {tuple(token) for token in x[1].tolist()}
    assert len({tuple(token) for token in few[1].tolist()} & own) == 10
    mean, std = bags.scale(np.array([0, 1]))
    used = bags.values[: bags.offsets[2]].astype(np.float32)
    assert np.allclose(mean, used.mean(0), atol=1e-4)
    assert np.allclose(std, used.std(0), atol=1e-4)


def test_kept_and_found_again_or_computed_if_damaged(tmp_path: Path) -> None:
    bags = Bags(np.arange(12, dtype=np.float16).reshape(6, 2), np.array([0, 4, 6]), 2)
    calls = []

    def compute() -> Bags:
        calls.append(1)
        return bags

    for _ in range(2):
        found = cached_bags(tmp_path, "k", compute)
        assert np.array_equal(found.values, bags.values)
        assert (found.offsets.tolist(), found.rows) == ([0, 4, 6], 2)
    assert len(calls) == 1
    (tmp_path / "tokens-k.npy").write_bytes(b"cut short")
    cached_bags(tmp_path, "k", compute)
    assert len(calls) == 2
