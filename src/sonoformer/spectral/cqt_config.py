"""What a constant-Q or variable-Q transform is: its bins, its analytic kernels, its frames.

Bin k looks at `f_k = fmin 2^(k / bins_per_octave)` through a window whose length is a fixed number
of periods (Brown, "Calculation of a constant Q spectral transform", 1991): long and sharp at low
frequencies, short at high ones. With `gamma` the windows of low bins are shorter (Schörkhuber et
al., "A Matlab toolbox for efficient perfect reconstruction time-frequency transforms with
log-frequency resolution", 2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.framing import Framing, PadMode
from sonoformer.spectral.options import refuse_not_positive, refuse_outside, refuse_unknown
from sonoformer.spectral.windows import WindowName, window

CqtWindow = WindowName | Literal["gaussian"]
CqtScale = Literal["librosa", "convolutional", "wrap"]
CqtOutput = Literal["magnitude", "power", "complex", "phase"]
CqtBackend = Literal["auto", "fft", "gemm"]

_LONGEST = 2**22  # samples of a kernel


@dataclass(frozen=True)
class CqtConfig:
    """Bins, kernels and frames; the defaults are librosa's and nnAudio's."""

    sample_rate: int = 22050
    """Hz of the waveforms."""
    hop_length: int = 512
    """Samples from one frame to the next."""
    fmin: float = 32.703195662574829
    """Hz of the lowest bin; C1 by default."""
    n_bins: int = 84
    """Bins."""
    bins_per_octave: int = 12
    """Bins an octave."""
    filter_scale: float = 1.0
    """Length of the kernels: below 1 sharper in time, above 1 sharper in frequency."""
    gamma: float = 0.0
    """Hz by which the bandwidth of every bin is widened; 0 is the constant-Q transform."""
    window: CqtWindow = "hann"
    """Window of the kernels (periodic)."""
    attenuation_db: float = 60.0
    """Of the gaussian window at its ends."""
    kernel_norm: int = 1
    """1: kernels sum to 1 in magnitude; 2: in energy; 0: the window divided by its length."""
    scale: CqtScale = "librosa"
    """Of the result. convolutional: the inner product with the kernels; wrap: twice that, so that
    a sinusoid of amplitude 1 reads 1 with kernel_norm 1; librosa: times the root of a kernel's
    length."""
    center: bool = True
    """Frame t is centred on sample t hop_length; else the first kernel begins at sample 0."""
    pad_mode: PadMode = "reflect"
    """What lies outside a clip when frames are centred."""
    output: CqtOutput = "magnitude"
    """What a forward pass gives; phase is in radians."""
    backend: CqtBackend = "auto"
    """fft: blocks of the clip by fast Fourier transform; gemm: convolution with the kernels; auto:
    the first, but the second where kernels are trained or exported."""
    trainable: bool = False
    """Whether the kernels are parameters."""
    response_cut: float = 1e-5
    """Part of a kernel's peak response under which it counts as zero in the fft backend: bounds
    the error."""

    def __post_init__(self) -> None:
        self._check_fields()
        top = self.frequencies[-1]
        if top > self.sample_rate / 2:
            raise UserError(
                f"n_bins, fmin: the highest bin is at {top:g} Hz, above half the sample rate "
                f"({self.sample_rate / 2:g} Hz); take fewer bins or a lower fmin"
            )
        if max(self.lengths) > _LONGEST:
            raise UserError(
                f"fmin, bins_per_octave: a kernel at {self.fmin:g} Hz is {max(self.lengths)} "
                f"samples long, more than {_LONGEST}; raise fmin or gamma, or resample to a lower "
                f"rate"
            )

    def _check_fields(self) -> None:
        refuse_outside(self, 1, 2**31, "sample_rate", "hop_length")
        refuse_outside(self, 1, 4096, "n_bins", "bins_per_octave")
        refuse_outside(self, 0, 2, "kernel_norm")
        refuse_not_positive(self, "fmin", "filter_scale", "attenuation_db")
        refuse_unknown(self, scale=CqtScale, pad_mode=PadMode, output=CqtOutput, backend=CqtBackend)
        if self.window not in (known := (*get_args(WindowName), "gaussian")):
            raise UserError(f"window: must be one of {', '.join(known)}; got {self.window!r}")
        if not 0 <= self.gamma < math.inf:
            raise UserError(f"gamma: must be 0 or more and finite; got {self.gamma}")
        if not 0 <= self.response_cut <= 1e-2:
            raise UserError(f"response_cut: must lie within 0 to 0.01; got {self.response_cut}")
        if self.trainable and self.backend == "fft":
            raise UserError("backend: kernels are trained with gemm or auto, not with fft")

    @property
    def alpha(self) -> float:
        """Distance of neighbouring bins as a part of their frequency."""
        return 2.0 ** (1 / self.bins_per_octave) - 1

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Hz of each bin."""
        return tuple(
            self.fmin * 2.0 ** (bin_ / self.bins_per_octave) for bin_ in range(self.n_bins)
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Samples of each bin's kernel."""
        q = self.filter_scale / self.alpha
        return tuple(
            math.ceil(q * self.sample_rate / (f + self.gamma / self.alpha))
            for f in self.frequencies
        )

    @property
    def reach(self) -> int:
        """Samples that the longest kernel reaches to either side of a frame's centre."""
        return (max(self.lengths) + 1) // 2

    @property
    def width(self) -> int:
        """The longest kernel's length rounded up to a power of two: nnAudio's `kernel_width`."""
        return max(2, 1 << (max(self.lengths) - 1).bit_length())

    @property
    def first_center(self) -> int:
        """Sample on which the first frame is centred."""
        return 0 if self.center else self.width // 2

    @property
    def framing(self) -> Framing:
        """Where frames stand: as those of a transform of `width` samples."""
        return Framing(self.width, self.hop_length, self.center, self.pad_mode)

    def frames(self, samples: int) -> int:
        """Frames of a clip; at least one."""
        return self.framing.frames(samples)

    def kernel(self, bin_: int) -> tuple[int, Tensor]:
        """The analytic kernel of a bin, with which the signal's inner product is taken.

        Returns:
            The place of its first sample relative to the frame's centre, and `(length,)`
            complex128 with phase 0 at the centre, scaled by `kernel_norm` and `scale`.
        """
        length, hertz = self.lengths[bin_], self.frequencies[bin_]
        start = -((length + 1) // 2)
        places = torch.arange(start, start + length, dtype=torch.float64)
        shape = _window(self.window, length, self.attenuation_db)
        kernel = torch.polar(shape / length, 2 * math.pi * hertz / self.sample_rate * places)
        if self.kernel_norm:
            kernel = kernel / torch.linalg.vector_norm(kernel, self.kernel_norm)
        factor = {"convolutional": 1.0, "wrap": 2.0, "librosa": math.sqrt(length)}[self.scale]
        return start, kernel * factor


def erb_gamma(bins_per_octave: int) -> float:
    """Hz of `gamma` with which bandwidths are proportional to those of the ear (librosa's)."""
    return 24.7 * (2.0 ** (1 / bins_per_octave) - 1) / 0.108


def _window(name: CqtWindow, length: int, attenuation_db: float) -> Tensor:
    """`(length,)` float64, periodic: the highest value is at length / 2."""
    if name != "gaussian":
        return window(name, length)
    # Of whole samples, as in nnAudio.
    width = math.ceil(length / 2 / math.sqrt(attenuation_db / 10 * math.log(10)))
    place = torch.arange(length, dtype=torch.float64) - length / 2
    return torch.exp(-0.5 * (place / width).square())
