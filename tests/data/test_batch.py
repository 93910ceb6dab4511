"""A batch on its way: between processes, to a device, to float32."""

from __future__ import annotations

import pickle

import pytest
import torch

from sonoformer.data.batch import Batch


def make(dtype: torch.dtype = torch.int16) -> Batch:
    wave = torch.tensor([[-32768, 16384, 1], [5, 0, 0]], dtype=torch.int16)
    return Batch(
        wave=wave if dtype == torch.int16 else wave / 32768,
        lengths=torch.tensor([3, 1]),
        index=torch.tensor([7, 8]),
        targets=torch.tensor([[0.0, 1.0], [0.25, 0.75]]),
        known=torch.tensor([[True, False], [True, True]]),
        noise=torch.rand(2, 4),
        problems=["a.wav: is broken"],
    )


def test_16_bit_samples_become_exact_floats() -> None:
    batch = make().prepared()
    assert batch.wave.dtype == torch.float32
    assert batch.wave.tolist() == [[-1.0, 0.5, 2.0**-15], [5 * 2.0**-15, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_a_batch_goes_to_a_device_as_float(dtype: torch.dtype) -> None:
    batch = make(dtype)
    moved = batch.to("cpu")
    assert torch.equal(moved.wave, make(torch.float32).wave)
    assert moved.problems == batch.problems
    assert moved.draws is None
    assert batch.wave.dtype == dtype  # the batch itself stays as it was
    assert len(moved) == 2


def test_a_batch_survives_pickling() -> None:
    batch = make()
    copy = pickle.loads(pickle.dumps(batch))
    for name in ("wave", "lengths", "index", "targets", "known", "noise"):
        assert torch.equal(getattr(copy, name), getattr(batch, name))
        assert getattr(copy, name).dtype == getattr(batch, name).dtype
    assert (copy.draws, copy.problems) == (None, batch.problems)
    copy.lengths += 1  # not a read-only view


@pytest.mark.gpu
def test_pinned_16_bit_samples_become_float_on_the_device() -> None:
    batch = make().pin_memory()
    assert batch.wave.is_pinned()
    moved = batch.to("cuda", non_blocking=True)
    assert moved.wave.is_cuda
    assert torch.equal(moved.wave.cpu(), make().prepared().wave)
    assert moved.targets is not None
    assert moved.targets.is_cuda
