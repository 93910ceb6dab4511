"""Weights and inputs of the reference fixtures, made again from their names."""

from __future__ import annotations

import math
import os
import zlib

import numpy as np
import torch
from torch import Tensor, nn


def ruled(key: str, shape: tuple[int, ...], mode: str) -> Tensor:
    """The weight that the fixtures' rule gives to a key of a reference checkpoint.

    Mode `std02` looks like a fresh model; `wide` has sharp attention and catches mistakes.
    """
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    weight, wide = key.endswith(".weight"), mode == "wide"
    if len(shape) == 1:
        scale = np.float32(0.1 if wide else 0.02)
        return torch.from_numpy(1 + scale * n if weight else scale * n)
    spread = 1 / math.sqrt(math.prod(shape[1:])) if weight else 0.5
    return torch.from_numpy(np.float32(spread if wide else 0.02) * n)


def ruled_ssamba(key: str, shape: tuple[int, ...], mode: str) -> Tensor:
    """As `ruled`, and for what only a state-space model has by its own rows of the rule."""
    name, seed = key.split(".")[-1], zlib.crc32(key.encode())
    n = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    spread = np.float32(0.1 if mode == "wide" else 0.0)
    if name in ("A_log", "A_b_log"):
        rows = np.log(np.arange(1, shape[1] + 1, dtype=np.float32))
        return torch.from_numpy(np.broadcast_to(rows, shape) + spread * n)
    if name in ("D", "D_b"):
        return torch.from_numpy(np.float32(1) + spread * n)
    if ".dt_proj" in key and name == "bias":
        low, high = math.log(1e-3), math.log(0.1)
        step = np.exp(np.random.RandomState(seed).random_sample(shape) * (high - low) + low)
        step = np.maximum(step, 1e-4)
        return torch.from_numpy((step + np.log(-np.expm1(-step))).astype(np.float32))
    return ruled(key, shape, mode)


def fill(module: nn.Module, prefix: str, mode: str) -> None:
    """Give every parameter of `module` the rule's weight for its name behind `prefix`."""
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    module.load_state_dict({n: ruled(prefix + n, shape, mode) for n, shape in shapes.items()})


def spectrograms(name: str, frames: int) -> Tensor:
    """The fixtures' two input spectrograms, `(2, frames, 128)`."""
    n = np.random.RandomState(zlib.crc32(f"input/{name}".encode())).standard_normal(
        (2, frames, 128)
    )
    time = np.arange(frames)[None, :, None] / frames - 0.5
    bins = np.arange(128)[None, None, :] / 128 - 0.5
    sign = np.array([1.0, -1.0])[:, None, None]
    return torch.from_numpy((0.5 * n + 0.5 * sign * time + 0.25 * bins).astype(np.float32))


TOLERANCES = {
    "embedding": 2e-5,
    "block": 5e-5,
    "norm": 2e-5,
    "logits": 5e-6,
    "positions": 1e-6,
    "prediction": 2e-5,
    "nce": 1e-5,
    "mse": 1e-6,
    "gradient of the largest": 1e-5,
}
"""Absolute; four to ten times the references' own difference between fp32 and fp64."""


DIFFERENCES: dict[str, dict[str, float]] = {}
"""Largest difference of each quantity in each test so far; `pytest --differences` prints them."""


def close(ours: Tensor | np.ndarray | float, theirs: np.ndarray | float, quantity: str) -> None:
    """Assert that two arrays agree within the tolerance of their quantity."""
    if isinstance(ours, Tensor):
        ours = ours.detach().double().numpy()
    note(quantity, float(np.abs(ours - theirs).max()))
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCES[quantity], rtol=0)


def note(quantity: str, difference: float) -> None:
    """Remember a difference of the running test."""
    found = DIFFERENCES.setdefault(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0], {})
    found[quantity] = max(found.get(quantity, 0.0), difference)
