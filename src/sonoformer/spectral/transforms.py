"""The transform that a front end's options ask for, from waveforms to levels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sonoformer.spectral.config import FbankConfig
from sonoformer.spectral.cqt import Cqt, Vqt
from sonoformer.spectral.kaldi import KaldiFbank
from sonoformer.spectral.leaf import Leaf, LeafConfig
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.mfcc import Gfcc, GfccConfig, Mfcc, MfccConfig
from sonoformer.spectral.pcen import Pcen, PcenConfig

_CEPSTRUM_OF = 64
"""Filters that a cepstrum is made of, at least."""


class Levels(nn.Module):
    """Energies of a transform, compressed; `(batch, frames, bins)` and frames of each clip.

    Args:
        transform: waveforms and lengths -> energies and frames.
        compress: energies -> levels.
    """

    def __init__(self, transform: nn.Module, compress: nn.Module) -> None:
        super().__init__()
        self.transform, self.compress = transform, compress

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(batch, samples)`, lengths in samples -> levels, lengths in frames."""
        energy, frames = self.transform(wave, lengths)
        return self.compress(energy), frames


class Log(nn.Module):
    """Natural logarithm above a floor.

    Args:
        floor: least energy.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, energy: Tensor) -> Tensor:
        """Energies -> levels of the same shape."""
        return energy.clamp_min(self.floor).log()


class Energies(nn.Module):
    """Kaldi's filterbank before its logarithm."""

    def __init__(self, fbank: KaldiFbank) -> None:
        super().__init__()
        self.fbank = fbank

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `KaldiFbank`; energies stay above its floor."""
        levels, frames = self.fbank(wave, lengths)
        return levels.exp(), frames


def build_transform(config: FbankConfig) -> nn.Module:
    """`(batch, samples)`, lengths -> levels `(batch, frames, n_mels)` before normalisation."""
    if config.transform == "kaldi" and config.compress == "log":
        return KaldiFbank(config)
    if config.transform in ("mfcc", "gfcc"):
        return _cepstrum(config)
    if config.transform == "leaf":
        return _leaf(config)
    energies = _ENERGIES.get(config.transform, _filtered)(config)
    if config.compress == "log":
        return Levels(energies, Log(config.log_floor))
    options = PcenConfig(trainable=config.trainable)
    rate = config.sample_rate / config.hop_length
    return Levels(energies, Pcen(config.n_mels, rate, options))


def _filtered(config: FbankConfig) -> nn.Module:
    return MelSpectrogram(_mel(config, "none"))


def _mel(config: FbankConfig, compression: str, n_mels: int | None = None) -> MelConfig:
    kind = {"mfcc": "slaney", "gfcc": "gammatone"}.get(config.transform, config.transform)
    learnt = config.trainable and config.compress == "log"
    return MelConfig(
        sample_rate=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.window_length,
        hop_length=config.hop_length,
        center=False,
        n_mels=n_mels or config.n_mels,
        kind=kind,  # type: ignore[arg-type]
        low_hz=config.low_hz,
        high_hz=config.high_hz,
        compression=compression,  # type: ignore[arg-type]
        floor=config.log_floor,
        trainable_filters="edges" if learnt else "none",
    )


def _cepstrum(config: FbankConfig) -> nn.Module:
    count = max(config.n_mels, _CEPSTRUM_OF)
    if config.transform == "mfcc":
        return Mfcc(MfccConfig(n_mfcc=config.n_mels, mel=_mel(config, "log", count)))
    return Gfcc(GfccConfig(n_mfcc=config.n_mels, mel=_mel(config, "root", count)))


def _kaldi(config: FbankConfig) -> nn.Module:
    return Energies(KaldiFbank(config))


def _cqt(config: FbankConfig) -> nn.Module:
    return Cqt(
        sample_rate=config.sample_rate,
        hop_length=config.hop_length,
        fmin=config.low_hz,
        n_bins=config.n_mels,
        bins_per_octave=config.bins_per_octave,
        output="power",
        scale="wrap",
    )


def _vqt(config: FbankConfig) -> nn.Module:
    return Vqt(
        sample_rate=config.sample_rate,
        hop_length=config.hop_length,
        fmin=config.low_hz,
        n_bins=config.n_mels,
        bins_per_octave=config.bins_per_octave,
        output="power",
        scale="wrap",
    )


def _leaf(config: FbankConfig) -> nn.Module:
    made = Leaf(
        LeafConfig(
            sample_rate=config.sample_rate,
            n_filters=config.n_mels,
            window_ms=config.window_ms,
            hop_ms=config.hop_ms,
            low_hz=config.low_hz,
            high_hz=config.top_hz,
        )
    )
    return made.requires_grad_(config.trainable)


_ENERGIES: dict[str, Callable[[FbankConfig], nn.Module]] = {
    "kaldi": _kaldi,
    "cqt": _cqt,
    "vqt": _vqt,
}
