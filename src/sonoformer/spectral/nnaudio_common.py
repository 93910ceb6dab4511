"""What the nnAudio aliases share: shapes, output formats, names."""

from __future__ import annotations

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.framing import PadMode
from sonoformer.spectral.planes import root

_PADS: dict[str, PadMode] = {"reflect": "reflect", "constant": "zeros"}
_WINDOWS = {"ones": "rectangular", "boxcar": "rectangular", "rect": "rectangular"}


def clips(wave: Tensor) -> Tensor:
    """`(samples)`, `(batch, samples)` or `(batch, 1, samples)` -> `(batch, samples)`.

    Raises:
        ValueError: another shape.
    """
    if wave.ndim == 3 and wave.shape[1] == 1:
        return wave.squeeze(1)
    if wave.ndim not in (1, 2):
        raise ValueError(
            f"sound should be (samples), (batch, samples) or (batch, 1, samples); "
            f"got {tuple(wave.shape)}"
        )
    return wave if wave.ndim == 2 else wave.unsqueeze(0)


def bins_first(real: Tensor, imaginary: Tensor, output_format: str) -> Tensor:
    """Planes `(batch, frames, bins)` -> `(batch, bins, frames)`, and for `Complex` and `Phase`
    `(batch, bins, frames, 2)`: real and imaginary parts, cosine and sine.

    Raises:
        UserError: there is no such format.
    """
    real, imaginary = real.transpose(1, 2), imaginary.transpose(1, 2)
    if output_format == "Magnitude":
        return root(real.square() + imaginary.square())
    if output_format == "Complex":
        return torch.stack([real, imaginary], -1)
    refuse_format(output_format)
    size = root(real.square() + imaginary.square())
    silent = size == 0
    size = torch.where(silent, 1, size)
    return torch.stack([torch.where(silent, 1, real / size), imaginary / size], -1)


def refuse_format(output_format: str) -> None:
    """Refuse an unknown output format.

    Raises:
        UserError: names the known ones.
    """
    if output_format not in ("Magnitude", "Complex", "Phase"):
        raise UserError(
            f"output_format: must be Magnitude, Complex or Phase; got {output_format!r}"
        )


def padding(pad_mode: str) -> PadMode:
    """Our name of a padding.

    Raises:
        UserError: there is no such padding.
    """
    if pad_mode not in _PADS:
        raise UserError(f"pad_mode: must be one of {', '.join(_PADS)}; got {pad_mode!r}")
    return _PADS[pad_mode]


def window_name(window: str) -> str:
    """Our name of a window."""
    return _WINDOWS.get(window, window)
