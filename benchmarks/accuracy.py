"""How exact are spectrograms? Judged by float64 evaluation of the definitions.

    python benchmarks/accuracy.py [--quick] [--check] [--json FILE]

* STFT, mel: each frame's discrete Fourier sums in float64; largest error over the largest value.
* CQT: inner products of the signal with the analytic kernels in float64, away from the borders.
* Kaldi log-mel: torchaudio's in float64, stored with the tests.
* Inverses: the waveform again, as a relative error or in decibels.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sonoformer.run import environment
from sonoformer.spectral import Cqt, KaldiFbank, MelSpectrogram, Stft
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.cqt_inverse import CqtInverse

RATE, N_FFT, HOP = 22050, 2048, 512
FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "fbank"
FLOOR = float(np.log(np.float32(1.1920929e-7)))


def sound(seconds: float) -> Tensor:
    """Gliding tones, clicks, noise and a stretch of near silence, `(samples,)` float32."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    pitch = 220 * 2 ** (2 * torch.sin(2 * math.pi * 0.4 * time))
    tones = sum(torch.sin(2 * math.pi * k * pitch.cumsum(0) / RATE) / k for k in range(1, 6))
    wave = 0.2 * tones + 0.02 * torch.randn(len(time), generator=generator)
    wave[:: RATE // 2] += 0.5
    wave[len(wave) // 3 : len(wave) // 3 + RATE // 4] *= 1e-3
    return wave.float()


def exact_spectra(wave: Tensor) -> np.ndarray:
    """Fourier sums of reflected, windowed frames in float64, `(frames, bins)` complex."""
    padded = np.pad(wave.double().numpy(), N_FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    starts = range(0, len(padded) - N_FFT + 1, HOP)
    frames = np.stack([padded[start : start + N_FFT] * window for start in starts])
    turns = np.exp(-2j * np.pi * np.outer(np.arange(N_FFT), np.arange(N_FFT // 2 + 1)) / N_FFT)
    return frames @ turns


def relative(found: Tensor, exact: np.ndarray) -> float:
    return float(np.abs(found.double().numpy() - exact).max() / np.abs(exact).max())


def decibels(found: Tensor, wave: Tensor) -> float:
    """Signal over error, away from the borders."""
    inside = slice(RATE // 2, len(wave) - RATE // 2)
    error = (found - wave).double()[inside].square().sum()
    return float(10 * torch.log10(wave.double()[inside].square().sum() / error))


@torch.inference_mode()
def fourier(seconds: float) -> dict[str, tuple[float, float]]:
    wave = sound(seconds)
    exact = exact_spectra(wave)
    stft = Stft(n_fft=N_FFT, hop_length=HOP)
    power = np.abs(exact) ** 2
    mel = MelSpectrogram(sample_rate=RATE, n_fft=N_FFT, hop_length=HOP, compression="none")
    filters = mel.config.filters.analytic_weights().numpy()
    energies = power @ (filters if filters.shape[0] == power.shape[1] else filters.T)
    re, im, _ = stft.planes(wave)
    back, _ = stft.inverse(re, im, length=len(wave))
    return {
        "STFT magnitude, relative": (relative(stft.magnitude(wave)[0], np.abs(exact)), 1e-5),
        "mel energies, relative": (relative(mel(wave)[0], energies), 1e-5),
        "inverse STFT, relative": (float((back - wave).abs().max() / wave.abs().max()), 1e-5),
    }


@torch.inference_mode()
def constant_q(seconds: float) -> dict[str, tuple[float, float]]:
    """Against inner products; `Cqt` in float64 by convolution is that."""
    wave = sound(seconds)
    config = CqtConfig(RATE, HOP, 220.0, 84, 24)
    fast = Cqt(config)
    exact = Cqt(replace(config, backend="gemm")).double()(wave.double())[0].numpy()
    edge = RATE // 2 // HOP
    found = fast(wave)[0][edge:-edge]
    return {"CQT, relative, away from the borders": (relative(found, exact[edge:-edge]), 1e-4)}


@torch.inference_mode()
def inverse_cqt(seconds: float) -> float:
    """Decibels that come back of a gliding tone inside the band, faded in and out."""
    time = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    pitch = 400 * 2 ** (1.5 * torch.sin(2 * math.pi * 0.3 * time))
    fade = (torch.minimum(time, seconds - time) / 0.3).clamp(0, 1)
    wave = (0.3 * fade.square() * torch.sin(2 * math.pi * pitch.cumsum(0) / RATE)).float()
    config = CqtConfig(RATE, 32, 80.0, 120, 24, output="complex")
    planes, _ = Cqt(config)(wave)
    back, _ = CqtInverse(config)(planes.real, planes.imag, length=len(wave))
    return decibels(back, wave)


@torch.inference_mode()
def kaldi() -> dict[str, tuple[float, float]]:
    rows = {}
    for name, mean in (("noise", 2e-5), ("mixed", 5e-5)):
        with np.load(FIXTURES / f"fbank_{name}.npz") as stored:
            exact = stored["torchaudio_float32"].astype(np.float64)
            exact = exact + stored["torchaudio_float64_minus_float32"]
            wave = torch.from_numpy(stored["waveform"].copy())
        gap = np.abs(KaldiFbank()(wave.unsqueeze(0))[0][0].double().numpy() - exact)
        loud = exact > FLOOR + 8
        rows[f"Kaldi log-mel ({name}), largest, 8 above the floor"] = (gap[loud].max(), 1e-3)
        rows[f"Kaldi log-mel ({name}), largest, elsewhere"] = (
            gap[~loud].max() if (~loud).any() else 0.0,
            5e-3,
        )
        rows[f"Kaldi log-mel ({name}), mean"] = (gap.mean(), mean)
    return {name: (float(found), target) for name, (found, target) in rows.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less sound")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds = 3.0 if options.quick else 8.0
    rows = {**fourier(seconds), **constant_q(seconds), **kaldi()}
    missed = 0
    for name, (found, target) in rows.items():
        missed += found > target
        print(f"{name:52} {found:9.1e}  (target {target:g}){'  MISSED' * (found > target)}")
    snr = inverse_cqt(seconds)
    missed += snr < 60
    print(f"{'inverse CQT, signal over error':52} {snr:6.1f} dB  (target 60 dB)")
    if options.json:
        figures = {name: found for name, (found, _) in rows.items()} | {"inverse CQT, dB": snr}
        result = {"figures": figures, "environment": environment()}
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
