"""What real and imaginary parts say, with gradients that are safe at 0."""

from __future__ import annotations

import torch
from torch import Tensor


def measured(re: Tensor, im: Tensor, power: int) -> Tensor:
    """Magnitudes (power 1) or their squares (power 2)."""
    squares = re.square() + im.square()
    return squares if power == 2 else root(squares)


def root(squares: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 rather than infinite."""
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1).sqrt(), 0)


def phase(re: Tensor, im: Tensor) -> Tensor:
    """Angle of `re + i im` in radians; 0, with gradient 0, where both are 0."""
    nothing = (re == 0) & (im == 0)
    return torch.atan2(torch.where(nothing, 0, im), torch.where(nothing, 1, re))
