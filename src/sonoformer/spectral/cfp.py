"""Combined frequency and periodicity: where a spectrum and a cepstrum agree, there is a pitch.

A spectrum has peaks at a tone's fundamental and its harmonics, a generalised cepstrum at its
period and the multiples; on a common pitch axis only the fundamental is in both (Peeters, "Music
pitch representation by periodicity measures based on combined temporal and spectral
representations", 2006; Su and Yang, "Combining spectral and temporal representations for multipitch
estimation of polyphonic music", 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.framing import Framing
from sonoformer.spectral.options import (
    configured,
    refuse_not_positive,
    refuse_outside,
    refuse_unknown,
)
from sonoformer.spectral.planes import measured
from sonoformer.spectral.tables import Tables
from sonoformer.spectral.windows import centred, window

Grid = Literal["exact", "nnaudio"]
_LOG_FLOOR = 1e-8


@dataclass(frozen=True)
class CfpConfig:
    """Frames and the pitch axis; the defaults are the authors' for singing voices."""

    sample_rate: int = 16000
    """Hz of the waveforms."""
    hop_length: int = 320
    """Samples from one frame to the next."""
    window_length: int = 2049
    """Samples of the Blackman-Harris window (symmetric)."""
    resolution_hz: float = 2.0
    """Distance of the spectrum's bins."""
    low_hz: float = 80.0
    """Lowest pitch."""
    high_hz: float = 1000.0
    """Highest pitch."""
    powers: tuple[float, ...] = (0.24, 0.6, 1.0)
    """Exponents of the magnitudes, of the cepstrum, of the spectrum of that, and so on; 0 is the
    logarithm."""
    bins_per_octave: int = 48
    """Pitches an octave."""
    grid: Grid = "exact"
    """Hz of the spectrum's bins: their own, or nnAudio's, which are stretched by 0.03 %."""

    def __post_init__(self) -> None:
        refuse_outside(self, 1, 2**31, "sample_rate", "hop_length")
        refuse_outside(self, 2, 2**20, "window_length")
        refuse_outside(self, 1, 1200, "bins_per_octave")
        refuse_not_positive(self, "resolution_hz", "low_hz", "high_hz")
        refuse_unknown(self, grid=Grid)
        if self.n_fft < self.window_length or self.n_fft % 2 or self.n_fft > 2**20:
            raise UserError(
                f"resolution_hz: {self.resolution_hz:g} Hz makes spectra of {self.n_fft} samples, "
                f"which must be even, at least window_length ({self.window_length}) and at most "
                f"{2**20}"
            )
        if len(self.powers) < 2 or not all(0 <= power < math.inf for power in self.powers):
            raise UserError(f"powers: must be two or more, of at least 0; got {self.powers}")
        if not 2 * self.low_hz <= 2 * self.high_hz <= self.sample_rate or len(self.pitches) < 4:
            raise UserError(
                f"low_hz, high_hz: {self.low_hz:g} to {self.high_hz:g} Hz must rise by some bins "
                f"and lie within half the sample rate"
            )
        if self.cut_quefrency < 1 or self.cut_bin < 1 or self.low_hz < self.resolution_hz:
            raise UserError("low_hz, high_hz: out of what the resolution and sample rate resolve")

    @property
    def n_fft(self) -> int:
        """Samples of a spectrum's transform."""
        return int(self.sample_rate / self.resolution_hz)

    @property
    def cut_bin(self) -> int:
        """First bin of the spectrum that counts."""
        return round(self.low_hz / self.resolution_hz)

    @property
    def cut_quefrency(self) -> int:
        """First quefrency that counts, in samples."""
        return round(self.sample_rate / self.high_hz)

    @property
    def pitches(self) -> tuple[float, ...]:
        """Hz of the pitch axis and of its end points, between which the bins lie."""
        octaves = math.ceil(math.log2(self.high_hz / self.low_hz))
        steps = range(octaves * self.bins_per_octave)
        found = (self.low_hz * 2 ** (step / self.bins_per_octave) for step in steps)
        return tuple(hertz for hertz in found if hertz < self.high_hz)

    @property
    def framing(self) -> Framing:
        """Where frames stand."""
        return Framing(self.n_fft, self.hop_length, True, "zeros")


class CfpParts(NamedTuple):
    """Each `(..., frames, bins)` on the pitch axis, bin i at `config.pitches[i]`; the lowest and
    the highest bin are 0.

    Attributes:
        salience: the product of `spectrum` and `cepstrum`.
        magnitude: of the short-time spectrum.
        spectrum: after the last even layer.
        cepstrum: after the last odd layer.
    """

    salience: Tensor
    magnitude: Tensor
    spectrum: Tensor
    cepstrum: Tensor


class Cfp(Tables):
    """Waveforms -> salience of pitches."""

    window: Tensor
    frequencies: Tensor
    quefrencies: Tensor

    def __init__(self, config: CfpConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = configured(CfpConfig, config, options)
        self.framing = self.config.framing
        self._lay_tables()

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Salience.

        Args:
            wave: `(..., samples)`.
            lengths: `(...)` samples of each clip; all of them if absent.

        Returns:
            `(..., frames, bins)`, low pitch first, and `(...)` frames of each clip. Frames past a
            clip's length are finite and mean nothing.
        """
        parts, frames = self.parts(wave, lengths)
        return parts.salience, frames

    def parts(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[CfpParts, Tensor]:
        """The salience and what it is the product of, and the lengths in frames."""
        clips, ends, counts = self.framing.clips(wave, lengths)
        with torch.autocast(wave.device.type, enabled=False):
            magnitude = self._magnitude(clips, ends)
            spectrum, cepstrum = self._layers(magnitude)
            low, high = (
                found[..., : len(table)] @ table.to(clips.dtype)
                for found, table in ((spectrum, self.frequencies), (cepstrum, self.quefrencies))
            )
            plain = magnitude[..., : len(self.frequencies)] @ self.frequencies.to(clips.dtype)
        found = (
            part.reshape(*wave.shape[:-1], *part.shape[1:])
            for part in (low * high, plain, low, high)
        )
        return CfpParts(*found), counts

    def _magnitude(self, clips: Tensor, lengths: Tensor | None) -> Tensor:
        config = self.config
        padded = self.framing.padded(clips, lengths)
        frames = padded.unfold(1, config.n_fft, config.hop_length)
        spectrum = torch.fft.rfft(frames * self.window.to(clips.dtype))
        return measured(spectrum.real, spectrum.imag, 1)

    def _layers(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """The last spectrum and the last cepstrum, `(batch, frames, n_fft / 2 + 1)`."""
        config = self.config
        found = [power_of(magnitude, config.powers[0])]
        for layer, power in enumerate(config.powers[1:], 1):
            cut = config.cut_quefrency if layer % 2 else config.cut_bin
            source = found[-1]
            if layer > 1:
                # The authors cut one value more at negative places than at positive ones; the
                # real part of the transform sees the mean of both.
                last = config.cut_bin if layer % 2 else config.cut_quefrency
                weight = source.new_ones(source.shape[-1])
                weight[last] = 0.5
                source = source * weight
            # A transform of real, symmetric values: the inverse one, but for the scale.
            turned = torch.fft.irfft(source, n=config.n_fft) * math.sqrt(config.n_fft)
            turned = turned[..., : config.n_fft // 2 + 1]
            place = torch.arange(turned.shape[-1], device=turned.device)
            inside = (place >= cut) & (place < config.n_fft - cut)
            found.append(torch.where(inside, power_of(turned.relu(), power), 0))
        odd = found[1::2][-1]
        even = found[0::2][-1]
        return even, odd

    def _tables(self) -> dict[str, Tensor]:
        config = self.config
        shape = window("blackmanharris", config.window_length, periodic=False)
        shape = centred(shape / torch.linalg.vector_norm(shape), config.n_fft)
        return {
            "window": shape,
            "frequencies": _frequency_table(config),
            "quefrencies": _quefrency_table(config),
        }


def power_of(value: Tensor, power: float) -> Tensor:
    """Values of at least 0 to a power, 0 being the logarithm; the gradient at 0 is 0."""
    if power == 0:
        return (value + _LOG_FLOOR).log()
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1).pow(power), 0)


def _frequency_table(config: CfpConfig) -> Tensor:
    """`(bins of the spectrum, pitches - 1)`: triangles, of which narrow ones are one bin."""
    count = round(config.high_hz / config.resolution_hz) + 1
    step = config.resolution_hz
    if config.grid == "nnaudio":
        step = config.sample_rate / 2 / (config.n_fft // 2 - 1)
    hertz = step * torch.arange(count, dtype=torch.float64)
    table = _triangles(hertz, config, closed=config.grid == "exact")
    for bin_, (low, high) in enumerate(_neighbours(config), 1):
        bottom, top = (round(edge / config.resolution_hz) for edge in (low, high))
        table[:bottom, bin_] = 0
        table[top + 1 :, bin_] = 0
        if bottom >= top:
            table[bottom, bin_] = 1
    return table


def _quefrency_table(config: CfpConfig) -> Tensor:
    """`(quefrencies, pitches - 1)`: triangles in frequency."""
    count = round(config.sample_rate / config.low_hz) + 1
    hertz = config.sample_rate / torch.arange(count, dtype=torch.float64)
    return _triangles(hertz, config, closed=config.grid == "exact")


def _triangles(hertz: Tensor, config: CfpConfig, *, closed: bool) -> Tensor:
    """Weights `(len(hertz), pitches - 1)`; the first is 0. Open triangles have no peak: what lies
    on it exactly weighs 0, as in nnAudio."""
    pitch = torch.tensor(config.pitches, dtype=torch.float64)
    low, mid, high = pitch[:-2], pitch[1:-1], pitch[2:]
    at = hertz.unsqueeze(1)
    rise, fall = (at - low) / (mid - low), (high - at) / (high - mid)
    table = torch.minimum(rise, fall).clamp_min(0)
    if not closed:
        table = torch.where(at == mid, 0, table)
    return torch.nn.functional.pad(table.nan_to_num(0), (1, 0))


def _neighbours(config: CfpConfig) -> list[tuple[float, float]]:
    """The pitches below and above each pitch but the first and the last."""
    return list(zip(config.pitches[:-2], config.pitches[2:], strict=True))
