"""How fast are spectrograms, beside librosa, nnAudio, kaldi-native-fbank and plain torch?

    python benchmarks/frontends.py [--quick] [--check] [--json FILE] [--threads 1 2] [--device cuda]

Sound: clips of 80,000 samples at 44.1 kHz, a share of those of nnAudio's paper (1,770 clips; IEEE
Access 2020), and as much sound at 16 kHz in clips of 10 s for the Kaldi filterbank. STFT magnitude,
mel (128) and MFCC (20) with n_fft 2048 and hop 512; CQT of 84 bins from 220 Hz, 24 an octave, hop
512. Figures are scaled to the paper's 1,770 clips.

Contenders run in turn in each repetition, after a warm-up, so that other work falls on all of them.
With one thread the figure is the median of processor seconds, which other work on the machine does
not lengthen; with more it is that of wall seconds. `floor` is the transforms alone (rfft of all
frames, from memory in the cache). On a GPU times are synchronised, and the limit is reading the
sound and writing the result at the memory's speed. Peak memory is that of a fresh process that
computes one batch, less what it had before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from sonoformer.run import environment
from sonoformer.spectral import Cqt, KaldiFbank, MelConfig, MelSpectrogram, Mfcc, Stft

CLIPS, SAMPLES, RATE, SPEECH_RATE = 1770, 80000, 44100, 16000
N_FFT, HOP, BATCH = 2048, 512, 32
_PAUSE = 0.1  # a BLAS's threads spin for tens of milliseconds after its last product
TARGETS = {
    ("stft", "librosa"): 2.0,
    ("stft", "nnaudio"): 10.0,
    ("mel", "librosa"): 3.0,
    ("mel", "nnaudio"): 12.0,
    ("mfcc", "librosa"): 3.0,
    ("mfcc", "nnaudio"): 12.0,
    ("cqt", "librosa"): 20.0,
    ("cqt", "nnaudio"): 6.0,
    ("fbank", "plain torch"): 2.0,
    ("fbank", "kaldi-native-fbank"): 6.0,
}
GPU_TARGETS = {("stft", "nnaudio"): 2.0, ("stft", "torch.stft"): 2.0, ("mel", "nnaudio"): 2.0}
Contender = Callable[[Tensor], object]


# Contenders ---------------------------------------------------------------------------------------


def ours(transform: str) -> nn.Module:
    """This package's transform."""
    if transform == "stft":
        return Stft(n_fft=N_FFT, hop_length=HOP)
    if transform == "mel":
        return MelSpectrogram(sample_rate=RATE, n_fft=N_FFT, hop_length=HOP, compression="none")
    if transform == "mfcc":
        mel = MelConfig(
            sample_rate=RATE, n_fft=N_FFT, hop_length=HOP, compression="db", top_db=80.0
        )
        return Mfcc(n_mfcc=20, mel=mel)
    if transform == "cqt":
        return Cqt(sample_rate=RATE, hop_length=HOP, fmin=220, n_bins=84, bins_per_octave=24)
    return KaldiFbank()


def nnaudio(transform: str) -> nn.Module:
    """nnAudio's, silent."""
    features = import_module("nnAudio.features")
    common = {"sr": RATE, "hop_length": HOP, "verbose": False}
    if transform == "stft":
        return features.STFT(n_fft=N_FFT, output_format="Magnitude", **common)
    if transform == "mel":
        return features.MelSpectrogram(n_fft=N_FFT, n_mels=128, **common)
    if transform == "mfcc":
        return features.MFCC(n_mfcc=20, n_fft=N_FFT, n_mels=128, **common)
    return features.CQT1992v2(fmin=220, n_bins=84, bins_per_octave=24, **common)


def librosa(transform: str) -> Contender:
    """librosa's, a clip at a time, as it is used."""
    library = import_module("librosa")
    calls = {
        "stft": lambda y: np.abs(library.stft(y, n_fft=N_FFT, hop_length=HOP)),
        "mel": lambda y: library.feature.melspectrogram(
            y=y, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=128
        ),
        "mfcc": lambda y: library.feature.mfcc(
            y=y, sr=RATE, n_mfcc=20, n_fft=N_FFT, hop_length=HOP, n_mels=128
        ),
        "cqt": lambda y: np.abs(
            library.cqt(y, sr=RATE, hop_length=HOP, fmin=220, n_bins=84, bins_per_octave=24)
        ),
    }
    return lambda waves: [calls[transform](wave.numpy()) for wave in waves]


def torch_stft(waves: Tensor) -> Tensor:
    """The usual line of code."""
    window = torch.hann_window(N_FFT, device=waves.device)
    return torch.stft(waves, N_FFT, HOP, window=window, return_complex=True).abs()


class PlainFbank(nn.Module):
    """The published steps of Kaldi's filterbank in plain torch, as torchaudio's package takes them:
    strided frames, a step at a time in fresh memory, and a dense matrix of filters."""

    def __init__(self) -> None:
        super().__init__()
        self.window = torch.hann_window(400, periodic=False)
        mel = torch.linspace(1127 * math.log1p(20 / 700), 1127 * math.log1p(8000 / 700), 130)
        bins = 1127 * torch.log1p(torch.arange(256) * SPEECH_RATE / 512 / 700).unsqueeze(1)
        up = (bins - mel[:-2]) / (mel[1:-1] - mel[:-2])
        down = (mel[2:] - bins) / (mel[2:] - mel[1:-1])
        filters = torch.minimum(up, down).clamp_min(0)
        self.filters = torch.cat([filters, torch.zeros(1, 128)])

    def forward(self, waves: Tensor) -> list[Tensor]:
        return [self.clip(wave) for wave in waves]

    def clip(self, wave: Tensor) -> Tensor:
        frames = wave.unfold(0, 400, 160)
        frames = frames - frames.mean(1, keepdim=True)
        before = torch.nn.functional.pad(frames.unsqueeze(0), (1, 0), mode="replicate").squeeze(0)
        frames = frames - 0.97 * before[:, :-1]
        frames = torch.nn.functional.pad(frames * self.window, (0, 112))
        power = torch.fft.rfft(frames).abs().pow(2)
        return torch.max(power @ self.filters, torch.tensor(1.1920929e-7)).log()


def kaldi_native(waves: Tensor) -> list[np.ndarray]:
    """kaldi-native-fbank, driven from Python as its documentation does."""
    library = import_module("kaldi_native_fbank")
    options = library.FbankOptions()
    options.frame_opts.dither, options.frame_opts.window_type = 0.0, "hanning"
    options.mel_opts.num_bins, options.mel_opts.high_freq = 128, 0.0
    found = []
    for wave in waves:
        bank = library.OnlineFbank(options)
        bank.accept_waveform(SPEECH_RATE, wave.numpy())
        bank.input_finished()
        found.append(np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)]))
    return found


def floor(transform: str) -> Contender:
    """All real transforms that are needed, with buffers in the cache: nothing computes less."""
    size, hop = (512, 160) if transform == "fbank" else (N_FFT, HOP)
    block = torch.randn(64, size)
    spectrum = torch.empty(64, size // 2 + 1, dtype=torch.complex64)

    def run(waves: Tensor) -> None:
        for _ in range(len(waves) * (1 + waves.shape[1] // hop) // 64):
            torch.fft.rfft(block, out=spectrum)

    return run


def contenders(transform: str, device: str) -> dict[str, Contender]:
    """Name -> call on a batch of waveforms."""
    module = ours(transform).eval().to(device)
    # The magnitude is what the others give.
    call: Contender = module.magnitude if isinstance(module, Stft) else module
    found: dict[str, Contender] = {"ours": call}
    if transform != "fbank":
        found["nnaudio"] = nnaudio(transform).eval().to(device)
    if transform == "stft":
        found["torch.stft"] = torch_stft
    if device == "cpu":
        if transform == "fbank":
            found |= {"plain torch": PlainFbank(), "kaldi-native-fbank": kaldi_native}
        else:
            found["librosa"] = librosa(transform)
        if transform != "cqt":
            found["floor"] = floor(transform)
    return found


# Measuring ----------------------------------------------------------------------------------------


def sound(transform: str, clips: int, device: str) -> tuple[Tensor, float]:
    """Noise, and what its times are multiplied with to be those of the paper's amount."""
    rate, samples = (SPEECH_RATE, 160000) if transform == "fbank" else (RATE, SAMPLES)
    count = (
        max(1, round(clips * SAMPLES / RATE / samples * rate)) if transform == "fbank" else clips
    )
    generator = torch.Generator().manual_seed(0)
    waves = 0.1 * torch.randn(count, samples, generator=generator)
    return waves.to(device), CLIPS * SAMPLES / RATE / (count * samples / rate)


def batched(call: Contender, waves: Tensor) -> None:
    for part in waves.split(BATCH):
        call(part)


@torch.inference_mode()
def measure(
    transform: str, clips: int, repetitions: int, device: str
) -> dict[str, dict[str, float]]:
    """Median processor and wall seconds of each contender, scaled to the paper's amount."""
    calls = contenders(transform, device)
    waves, scale = sound(transform, clips, device)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        batched(call, waves)
    for _ in range(repetitions):
        for name, call in calls.items():
            settle(device)
            time.sleep(_PAUSE)
            wall, cpu = time.perf_counter(), time.process_time()
            batched(call, waves)
            settle(device)
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    found = {}
    for name, pairs in times.items():
        cpu, wall = (scale * statistics.median(values) for values in zip(*pairs, strict=True))
        found[name] = {"cpu": cpu, "wall": wall}
    return found


def settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak(transform: str, name: str) -> float:
    """MiB that one batch takes in a process of its own."""
    words = [sys.executable, __file__, "--peak", transform, name]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@torch.inference_mode()
def print_peak(transform: str, name: str) -> None:
    call = contenders(transform, "cpu")[name]
    waves, _ = sound(transform, BATCH, "cpu")
    call(waves[:1])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the mark starts from here
    before = high_water()
    call(waves)
    print(high_water() - before)


def high_water() -> float:
    """MiB that this process has taken at most; getrusage would count its parent's, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def limit(transform: str, device: str) -> float:
    """Seconds for reading the sound and writing the result of the paper's amount on a GPU."""
    block = torch.empty(2**28, device=device)
    other = torch.empty_like(block)
    other.copy_(block)
    settle(device)
    began = time.perf_counter()
    for _ in range(10):
        other.copy_(block)
    settle(device)
    speed = 10 * 2 * block.numel() * 4 / (time.perf_counter() - began)
    bins = {"stft": N_FFT // 2 + 1, "mel": 128, "mfcc": 20, "cqt": 84}[transform]
    return CLIPS * 4 * (SAMPLES + bins * (1 + SAMPLES // HOP)) / speed


# Output -------------------------------------------------------------------------------------------


def show(found: dict[str, Any], key: str, targets: dict[tuple[str, str], float]) -> list[str]:
    """Print the table; the targets that are missed."""
    missed = []
    for transform, rows in found.items():
        base = rows["ours"][key]
        for name, row in rows.items():
            ratio = row[key] / base
            target = targets.get((transform, name))
            memory = f"{row['peak']:8.0f} MiB" if "peak" in row else " " * 12
            note = "" if target is None else f"  (target {target:g}x)"
            print(
                f"{transform:6} {name:20} cpu {row['cpu']:8.3f} s  wall {row['wall']:8.3f} s"
                f"{memory}  {ratio:7.2f}x ours{note}"
            )
            if target is not None and ratio < target:
                missed.append(f"{transform}: {ratio:.2f}x {name}, target {target:g}x ({key})")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less sound, fewer repetitions")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", default=["stft", "mel", "mfcc", "cqt", "fbank"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", nargs=2, metavar=("TRANSFORM", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.peak:
        print_peak(*options.peak)
        return 0
    result: dict[str, Any] = {"environment": environment(), "device": options.device}
    print(f"{result['environment']}\nload average {os.getloadavg()[0]:.1f}")
    missed = []
    for threads in options.threads if options.device == "cpu" else [1]:
        torch.set_num_threads(threads)
        threadpool_limits(threads)
        clips, repetitions = (8, 3) if options.quick else (64, 7)
        found = {
            name: measure(name, clips, repetitions, options.device)
            for name in options.only
            if options.device == "cpu" or name != "fbank"
        }
        for transform, rows in found.items():
            if threads == 1 and not options.quick and options.device == "cpu":
                for name, row in rows.items():
                    row["peak"] = peak(transform, name)
            if options.device != "cpu":
                seconds = limit(transform, options.device)
                rows["memory limit"] = {"cpu": seconds, "wall": seconds}
        print(f"\n{threads} thread{'s' * (threads > 1)}, {options.device}")
        if options.device == "cpu":
            missed += show(found, "cpu" if threads == 1 else "wall", TARGETS)
        else:
            missed += show(found, "wall", GPU_TARGETS)
        result[f"{threads} threads"] = found
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    for line in missed:
        print(f"missed: {line}")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
