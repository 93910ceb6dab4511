"""Constant-Q transform -> waveform: the inverse by the canonical dual frame.

The waveform whose transform is nearest to the given planes solves S x = A* y, where A is the
transform, A* its adjoint and S = A* A the frame operator; A S^-1 is the canonical dual frame.
Conjugate gradients need the transform and its adjoint only, both by FFT, take clips of any length
and their reflected ends as they are, and leave at 0 what no bin hears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.cqt import Cqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.options import configured


class CqtInverse(nn.Module):
    """Real and imaginary planes of a `Cqt` or a `Vqt` -> waveforms.

    Of a sound that lies 5 % inside the lowest and the highest bin, at least 60 dB come back (the
    sound over the error, away from a clip's ends, or over all of a clip that fades in and out)
    with `gamma` 0, `filter_scale` 1, a Hann window, 30 iterations, and a `hop_length` of at most a
    third of the shortest kernel (`longest_hop`): about 6 real numbers for each one that the band
    has. Measured: 71 dB at 24 bins an octave and a hop of 0.41 of the shortest kernel, 63 dB at 12
    bins and 0.34. A hop of half a kernel gives 60 dB, one of 0.8 not more than 37. Widened
    bandwidths (`gamma`) need more iterations.

    A reflected sound has a kink at its end, which leaves the band: over a whole clip of a second
    or two, ends included, expect 40 dB.

    Differentiable once, with the exact gradient of the dual frame.
    """

    def __init__(
        self, config: CqtConfig | None = None, *, iterations: int = 30, **options: Any
    ) -> None:
        """
        Args:
            config: of the transform that is inverted.
            iterations: of conjugate gradients; each takes one transform and its adjoint.
            options: of a configuration, instead of one.

        Raises:
            UserError: the kernels of the highest bin leave samples out, or are trained.
        """
        super().__init__()
        self.config = config = configured(CqtConfig, config, options)
        if config.trainable:
            raise UserError("trainable: the inverse of learnt kernels is not known")
        if not 1 <= iterations <= 10**4:
            raise UserError(f"iterations: must lie within 1 to 10000; got {iterations}")
        if config.hop_length > min(config.lengths):
            raise UserError(
                f"hop_length: the kernels of the highest bin, {min(config.lengths)} samples long, "
                f"leave samples out every {config.hop_length}; take {self.longest_hop} or less"
            )
        self.iterations = iterations
        # Every bin counts alike, whatever the scale of the planes.
        self.cqt = Cqt(replace(config, scale="convolutional", kernel_norm=1, backend="fft"))
        scales = [
            torch.linalg.vector_norm(config.kernel(k)[1], 1).item() for k in range(config.n_bins)
        ]
        self._scales = torch.tensor(scales, dtype=torch.float64)

    @property
    def longest_hop(self) -> int:
        """Samples between frames up to which sound comes back whole."""
        return max(1, min(self.config.lengths) // 3)

    def forward(
        self, re: Tensor, im: Tensor, lengths: Tensor | None = None, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Waveforms.

        Args:
            re: `(..., frames, bins)` real parts.
            im: imaginary parts.
            lengths: `(...)` samples of each clip; all of them if absent. Frames past a clip's own
                are left out.
            length: samples of a row; up to the last frame's centre if absent.

        Returns:
            `(..., length)`, zero past each clip's length, and `(...)` samples of each clip.
        """
        outer, count = re.shape[:-2], re.shape[-2]
        if length is None:
            length = self._samples(count)
        if self.config.frames(length) != count:
            raise ValueError(
                f"{length} samples have {self.config.frames(length)} frames; got {count}"
            )
        ends = torch.full(outer, length, device=re.device)
        ends = ends if lengths is None else lengths.to(re.device)
        with torch.autocast(re.device.type, enabled=False):
            kind = torch.float64 if re.dtype == torch.float64 else torch.float32
            scales = self._scales.to(re.device, kind)
            clips = ends.reshape(-1)
            planes = (torch.stack([re, im]).to(kind) / scales).reshape(2, -1, count, len(scales))
            wave = _Inverse.apply(planes, clips, length, self.cqt, self.iterations)
        return wave.reshape(*outer, length), ends

    def _samples(self, frames: int) -> int:
        rest = 0 if self.config.center else self.config.width
        return max(1, (frames - 1) * self.config.hop_length + rest)


class _Inverse(torch.autograd.Function):
    """`(2, batch, frames, bins)` -> `(batch, length)`. The gradient, A S^-1 g, are the least planes
    whose adjoint is nearest to g: the same problem with both operators exchanged."""

    @staticmethod
    def forward(
        ctx: Any, planes: Tensor, lengths: Tensor, length: int, cqt: Cqt, iterations: int
    ) -> Tensor:
        ctx.lengths, ctx.cqt, ctx.iterations = lengths, cqt, iterations
        transform, adjoint = _operators(cqt, planes, lengths, length)
        return _solve(transform, adjoint, planes, iterations)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (wave,) = gradients
        transform, adjoint = _operators(ctx.cqt, wave, ctx.lengths, wave.shape[1])
        inside = torch.arange(wave.shape[1], device=wave.device) < ctx.lengths.unsqueeze(1)
        return _solve(adjoint, transform, wave * inside, ctx.iterations), None, None, None, None


def _operators(
    cqt: Cqt, like: Tensor, lengths: Tensor, length: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The transform of real clips to the planes of their own frames, and its adjoint."""
    with torch.inference_mode(False), torch.enable_grad():
        probe = torch.zeros(len(lengths), length, dtype=like.dtype, device=like.device)
        re, im, frames = cqt.planes(probe.requires_grad_(), lengths)
        own = torch.arange(re.shape[1], device=like.device) < frames.unsqueeze(1)
        image = torch.stack([re, im]) * own.unsqueeze(-1)

    def transform(wave: Tensor) -> Tensor:
        return torch.stack(cqt.planes(wave, lengths)[:2]) * own.unsqueeze(-1)

    def adjoint(planes: Tensor) -> Tensor:
        return torch.autograd.grad(image, probe, planes, retain_graph=True)[0]

    return transform, adjoint


def _solve(
    forth: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    wanted: Tensor,
    iterations: int,
) -> Tensor:
    """The least x with `forth(x)` nearest to `wanted`, every clip of a batch by itself.

    Conjugate gradients on the residual of `wanted` itself (CGLS): what no bin hears is never let
    in, while in the recursion of S x = A* y its rounding grows with every iteration.
    """
    rest, slope = wanted, back(wanted)
    found, step = torch.zeros_like(slope), slope
    size = _squared(slope)
    least = size * torch.finfo(size.dtype).eps ** 2
    for _ in range(iterations):
        image = forth(step)
        curve = _squared(image)
        # A clip that is done, or silent, stays as it is.
        going = (size > least) & (curve > 0)
        length = torch.where(going, size / torch.where(going, curve, 1), 0)
        found = found + _scaled(step, length)
        rest = rest - _scaled(image, length)
        slope = back(rest)
        before, size = size, _squared(slope)
        step = slope + _scaled(step, torch.where(going, size / torch.where(going, before, 1), 0))
    return found


def _squared(x: Tensor) -> Tensor:
    """Squared length of each clip, `(batch,)`, of waveforms or of planes."""
    return x.square().sum(1 if x.ndim == 2 else (0, 2, 3))


def _scaled(x: Tensor, factors: Tensor) -> Tensor:
    """Waveforms or planes, each clip times its factor."""
    return x * (factors.unsqueeze(1) if x.ndim == 2 else factors.view(-1, 1, 1))
