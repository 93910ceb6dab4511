"""Constant-Q and variable-Q transforms: exact, differentiable, trainable, exportable.

By default in the frequency domain (`spectral.cqt_fft`), which costs a fraction of a convolution
with the kernels; by convolution (`spectral.cqt_kernels`) where the kernels are trained or the
model is exported. Both agree with the inner products of the signal and the analytic kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.buffers import exporting, may_reuse
from sonoformer.spectral.cqt_config import CqtConfig, CqtOutput, erb_gamma
from sonoformer.spectral.cqt_fft import Clips, blocked, differentiable
from sonoformer.spectral.cqt_kernels import KernelBank, table_values
from sonoformer.spectral.cqt_response import Blocks, responses
from sonoformer.spectral.framing import PadMode
from sonoformer.spectral.options import configured
from sonoformer.spectral.padding import extend
from sonoformer.spectral.planes import measured, phase

_SPARE = 2**23  # numbers of kernels that are made just in case the model is exported


class Cqt(nn.Module):
    """Waveforms -> constant-Q transform.

    Without gradient, on a CPU and in float32, blocks of the clips are computed in memory that is
    used again; otherwise in one differentiable expression. All in fp32, also under autocast and
    after `.half()`; float64 waveforms are computed in float64.

    Against the inner products in float64, errors stay under 1e-4 of the largest magnitude with
    the default `response_cut`, and a clip's frames differ by less than that with the length of the
    batch that it is in.
    """

    def __init__(self, config: CqtConfig | None = None, **options: Any) -> None:
        """From a configuration, or from the options of one."""
        super().__init__()
        self.config = config = configured(CqtConfig, config, options)
        self._reach, self._first = config.reach, config.first_center
        self._framing = config.framing
        wanted = config.trainable or config.backend == "gemm"
        spare = config.backend == "auto" and table_values(config) <= _SPARE
        self.bank = KernelBank(config) if wanted or spare else None
        self._always_gemm = wanted

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The transform as `config.output` has it.

        Args:
            wave: `(..., samples)`, zero past each clip's length.
            lengths: `(...)` samples of each clip; all of them if absent.

        Returns:
            `(..., frames, n_bins)`, low frequency first, and `(...)` frames of each clip. Frames
            past a clip's length are finite and mean nothing.
        """
        output = self.config.output
        if output in ("magnitude", "power"):
            (found,), frames = self._transform(wave, lengths, output)
            return found, frames
        (real, imaginary), frames = self._transform(wave, lengths, "planes")
        return finished(real, imaginary, output), frames

    def planes(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Real and imaginary parts, each `(..., frames, n_bins)`, and the lengths in frames."""
        (real, imaginary), frames = self._transform(wave, lengths, "planes")
        return real, imaginary, frames

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""
        return self._framing.frames(samples)

    def reset_to_analytic(self) -> None:
        """Undo all training of the kernels."""
        if self.bank is not None:
            self.bank.reset_to_analytic()

    def _transform(
        self, wave: Tensor, lengths: Tensor | None, kind: str
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        clips, ends, counts = self._framing.clips(wave, lengths)
        with torch.autocast(wave.device.type, enabled=False):
            found = self._compute(clips, ends, kind)
        outer = wave.shape[:-1]
        return tuple(plane.reshape(*outer, *plane.shape[1:]) for plane in found), counts

    def _compute(self, wave: Tensor, lengths: Tensor | None, kind: str) -> tuple[Tensor, ...]:
        if self._always_gemm or (self.config.backend == "auto" and exporting()):
            return _values(*self._convolved(wave, lengths), kind)
        count = self.frames(wave.shape[-1])
        blocks = Blocks.of(self.config.hop_length, self._reach, count)
        if may_reuse(wave):
            return self._blocked(wave, lengths, kind, blocks, count)
        dtype = torch.complex128 if wave.dtype == torch.float64 else torch.complex64
        tables = responses(self.config, blocks.fold, dtype, str(wave.device))
        before = self._reach - self._first
        wave = extend(
            wave, before, blocks.covered - before - wave.shape[-1], self._padding, lengths
        )
        found = differentiable(wave, blocks, tables)[:, :count]
        return _values(found.real, found.imag, kind)

    def _blocked(
        self, wave: Tensor, lengths: Tensor | None, kind: str, blocks: Blocks, count: int
    ) -> tuple[Tensor, ...]:
        ends = [wave.shape[-1]] * len(wave) if lengths is None else lengths.tolist()
        clips = Clips(wave, ends, self._reach - self._first, self._padding)
        with torch.no_grad():
            found = blocked(clips, blocks, responses(self.config, blocks.fold), kind)
        return tuple(plane[:, :count] for plane in found)

    def _convolved(self, wave: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.bank is None:
            raise UserError(
                "backend: the kernels of this transform are large, and no second form of it is "
                "kept for export; set backend to gemm"
            )
        # One more sample behind than in front, so that the frames are 1 + samples // hop.
        before, after = self._reach - self._first, self._reach - self._first + 1
        if not self.config.center and wave.shape[-1] < self.config.width:
            after += self.config.width - wave.shape[-1]
        return self.bank(extend(wave, before, after, self._padding, lengths))

    @property
    def _padding(self) -> PadMode:
        return self.config.pad_mode if self.config.center else "zeros"

    def extra_repr(self) -> str:
        """The bins."""
        c = self.config
        return f"{c.n_bins} bins from {c.fmin:g} Hz, {c.bins_per_octave} an octave"


class Vqt(Cqt):
    """Waveforms -> variable-Q transform: as `Cqt`, with bandwidths widened by `gamma` Hz; by
    default so that they are proportional to those of the ear (librosa's default)."""

    def __init__(self, config: CqtConfig | None = None, **options: Any) -> None:
        if config is None and "gamma" not in options:
            octave = options.get("bins_per_octave", CqtConfig.bins_per_octave)
            options["gamma"] = erb_gamma(octave)
        super().__init__(config, **options)


def finished(real: Tensor, imaginary: Tensor, output: CqtOutput) -> Tensor:
    """What is asked for, of real and imaginary parts."""
    if output == "complex":
        return torch.complex(real, imaginary)
    if output == "phase":
        return phase(real, imaginary)
    return measured(real, imaginary, 2 if output == "power" else 1)


def _values(real: Tensor, imaginary: Tensor, kind: str) -> tuple[Tensor, ...]:
    if kind == "planes":
        return real, imaginary
    return (measured(real, imaginary, 2 if kind == "power" else 1),)
