"""How fast does each objective learn, and how near is it to what the machine can do?

    python benchmarks/objectives.py [--quick] [--check] [--json FILE] [--threads N] [--device cuda]

One step is: filterbank, masks, forward, loss, backward, AdamW, and the teacher where there is one;
on clips of 10 s, of noise, with the options an objective has by default. On a CPU the encoder is
tiny and computes in fp32; on a GPU it is base, in bf16, unless --size says otherwise. Columns:

* `clips/s`, `views/s`   clips of a step, and the times that the encoder hears one, masked in
                         another way (16 a clip for EAT); `audio s/s`: seconds of sound
* `of mspm`              views/s and clips/s over those of masked spectrogram patch modelling
* `GFLOP`                of a clip, forward and back: products of matrices, convolutions, attention
* `MFU`                  those, over what a matrix product (fp32 on a CPU, bf16 on a GPU) of the
                         same moment reaches
* `peak`                 memory of a process of its own that does two steps; on a GPU, of the device
* `wait`                 share of the time that a real run from packed sound waits for its loader,
                         in its second half

Objectives run in turn in each repetition, beside the matrix product, so that other work falls on
all of them; figures are medians over repetitions, ratios medians of those within one repetition.
With one thread times are processor seconds, which other work on the machine does not lengthen;
with more, or on a GPU, they are wall seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sonoformer.audio import write
from sonoformer.data.batch import Batch
from sonoformer.data.cache import pack
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.order import Order
from sonoformer.data.sources import Stretch
from sonoformer.data.views import Subset
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.pretraining import OBJECTIVES, Objective
from sonoformer.run import Run, environment
from sonoformer.settings import build
from sonoformer.training import TrainConfig, TrainData, fit
from sonoformer.training.config import OptimiserConfig
from sonoformer.training.optimisers import build_optimiser

RATE, SECONDS = 16000, 10
SAMPLES = RATE * SECONDS
STEPS = 1000  # of the run that the steps pretend to be part of
ADAM = OptimiserConfig(name="adamw", lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05)
# objective -> (figure, at least)
TARGETS = {"mae": ("clips of mspm", 2.5), "eat": ("views of mspm", 4.0)}
GPU_TARGETS = {"mspm": ("mfu", 0.30)}
GPU_WAIT = 0.03


# One step -----------------------------------------------------------------------------------------


def learner_of(
    name: str, size: str, device: str, options: dict[str, Any] | None = None, samples: int = SAMPLES
) -> Objective:
    torch.manual_seed(0)
    config, kind = OBJECTIVES[name]
    chosen: Any = build(config, options or {}, name)
    learner: Objective = kind(AstEncoder(ast_config(size)), chosen, samples)
    learner.begin()
    return learner.train().to(device)


def noise(learner: Objective, clips: int, device: str, samples: int = SAMPLES) -> Batch:
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(clips, samples, generator=generator)
    lengths, uniform = torch.full((clips,), samples), torch.rand(clips, learner.noise)
    return Batch(wave, lengths, torch.arange(clips), noise=uniform).to(device)


def step_of(learner: Objective, batch: Batch) -> Callable[[], None]:
    """A whole training step."""
    optimiser, count, device = build_optimiser(learner, ADAM), 0, batch.wave.device.type

    def step() -> None:
        nonlocal count
        learner.start_step(count, STEPS)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss, _ = learner.loss(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        learner.end_step(count, STEPS)
        count += 1

    return step


def flops(learner: Objective, batch: Batch) -> float:
    """Of a clip, forward and back; elementwise work and the filterbank do not count."""
    backward = {torch.ops.aten.convolution_backward: _convolution_backward}
    counter = FlopCounterMode(display=False, custom_mapping=backward)
    # Other ways to compute attention are unknown to the counter on a CPU.
    with counter, sdpa_kernel(SDPBackend.MATH):
        learner.loss(batch)[0].backward()
    learner.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(batch)


def _convolution_backward(gradient: Any, x: Any, weight: Any, *rest: Any, **_: Any) -> int:
    """As many for each of the two gradients as forward; torch's count forgets the groups."""
    transposed, wanted = rest[4], rest[7]
    places = x if transposed else gradient
    forward = 2 * places[0] * int(np.prod(places[2:])) * int(np.prod(weight))
    return forward * (int(wanted[0]) + int(wanted[1]))


# Measuring ----------------------------------------------------------------------------------------


class Clock:
    """Seconds of a call: of the processor with one thread, else on the wall."""

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self.now = time.process_time if device == "cpu" and threads == 1 else time.perf_counter

    def __call__(self, call: Callable[[], object]) -> float:
        self._settle()
        began = self.now()
        call()
        self._settle()
        return self.now() - began

    def _settle(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def product(device: str) -> tuple[Callable[[], object], float]:
    """A matrix product, and its FLOPs."""
    size, kind = (2048, torch.float32) if device == "cpu" else (8192, torch.bfloat16)
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every objective's seconds and the product's FLOPs a second, in every repetition."""
    clock = Clock(options.device, options.threads)
    call, work = product(options.device)
    rows: dict[str, dict[str, Any]] = {}
    for name in options.only:
        learner = learner_of(name, options.size, options.device)
        clips = max(1, options.batch // learner.masked_views)
        batch = noise(learner, clips, options.device)
        count = flops(learner, noise(learner, 1, options.device))
        step = step_of(learner, batch)
        step()
        rows[name] = {
            "step": step,
            "clips": clips,
            "views": learner.masked_views,
            "gflop": count / 1e9,
            "seconds": [],
            "peak flops": [],
        }
    for _ in range(options.repetitions):
        for row in rows.values():
            row["peak flops"].append(work / clock(call))
            row["seconds"].append(clock(row["step"]))
    for row in rows.values():
        del row["step"]
    return rows


def summarise(rows: dict[str, dict[str, Any]]) -> None:
    """Add the figures to the rows."""
    base = rows.get("mspm")
    for row in rows.values():
        rates = [row["clips"] / s for s in row["seconds"]]
        row["clips per second"] = statistics.median(rates)
        row["views per second"] = row["views"] * row["clips per second"]
        row["audio seconds per second"] = SECONDS * row["clips per second"]
        pairs = zip(rates, row["peak flops"], strict=True)
        row["mfu"] = statistics.median(row["gflop"] * 1e9 * r / peak for r, peak in pairs)
        if base is not None:
            pairs = zip(rates, base["seconds"], strict=True)
            row["clips of mspm"] = statistics.median(r * s / base["clips"] for r, s in pairs)
            row["views of mspm"] = row["clips of mspm"] * row["views"] / base["views"]


def peak(name: str, options: argparse.Namespace) -> float:
    """GiB of a process of its own."""
    words = [sys.executable, __file__, "--peak", name, "--device", options.device]
    words += ["--size", options.size, "--batch", str(options.batch)]
    words += ["--threads", str(options.threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(name: str, options: argparse.Namespace) -> None:
    learner = learner_of(name, options.size, options.device)
    clips = max(1, options.batch // learner.masked_views)
    step = step_of(learner, noise(learner, clips, options.device))
    step()
    step()
    if options.device != "cpu":
        print(torch.cuda.max_memory_allocated() / 2**30)
        return
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20)


def waits(options: argparse.Namespace) -> dict[str, float]:
    """Share of waiting in a real run from packed sound, for each objective."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        stretches, random = [], np.random.default_rng(0)
        for number in range(16):
            path = Path(folder) / f"{number}.wav"
            write(path, 0.1 * random.standard_normal(3 * SAMPLES, dtype=np.float32), RATE)
            stretches.append(Stretch(str(path), 0.0, 3.0 * SECONDS))
        cache = pack(stretches, Path(folder) / "packed", RATE).cache
        for name in options.only:
            learner = learner_of(name, options.size, "cpu")
            clips = max(1, options.batch // learner.masked_views)
            rows = np.arange(max(clips, len(cache))) % len(cache)
            data = ClipDataset(
                Subset(cache, rows), crop=SAMPLES, seed=0, train=True, noise=learner.noise
            )
            order = Order(len(data), batch_size=clips, seed=0)
            config = TrainConfig(
                steps=2 * options.steps, batch_size=clips, log_every=options.steps, optimiser=ADAM
            )
            with Run.start(Path(folder) / name, "pretrain", config, 0) as run:
                run.echo = None
                train = TrainData(data, order)
                fit(learner, train, None, config, run, seed=0, device=options.device)
            text = (Path(folder) / name / "timing.csv").read_text().splitlines()
            found[name] = float(text[-1].split(",")[text[0].split(",").index("wait_share")])
    return found


# Output -------------------------------------------------------------------------------------------


def show(rows: dict[str, dict[str, Any]], device: str) -> list[str]:
    """Print the table; the targets that are missed."""
    print(
        f"{'':11}{'clips/s':>9}{'views/s':>9}{'audio s/s':>11}{'of mspm: views':>16}{'clips':>7}"
        f"{'GFLOP':>9}{'MFU':>7}{'peak':>11}{'wait':>8}"
    )
    targets, missed = TARGETS if device == "cpu" else GPU_TARGETS, []
    for name, row in rows.items():
        ratios = [row.get(key, float("nan")) for key in ("views of mspm", "clips of mspm")]
        memory = f"{row['peak']:7.2f} GiB" if "peak" in row else ""
        wait = f"{row['wait']:.1%}" if "wait" in row else ""
        print(
            f"{name:11}{row['clips per second']:9.2f}{row['views per second']:9.1f}"
            f"{row['audio seconds per second']:11.0f}{ratios[0]:15.2f}x{ratios[1]:6.2f}x"
            f"{row['gflop']:9.1f}{row['mfu']:7.0%}{memory:>11}{wait:>8}"
        )
        figure, least = targets.get(name, ("mfu", 0.0))
        if row.get(figure, least) < least:
            missed.append(f"{name}: {figure} {row[figure]:.2f}, target {least:g}")
        if device != "cpu" and row.get("wait", 0.0) > GPU_WAIT:
            missed.append(f"{name}: waits {row['wait']:.1%}, target {GPU_WAIT:.0%} at most")
    for name, (figure, least) in targets.items():
        if name in rows:
            print(f"{name}: {figure} {rows[name].get(figure, float('nan')):.2f} (target {least:g})")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few clips, repetitions and runs")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", help="of the encoder; tiny on a CPU, else base")
    parser.add_argument(
        "--batch", type=int, help="masked views in a step; 16 on a CPU (--quick: 4), else 512"
    )
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--steps", type=int, help="of each half of the real run")
    parser.add_argument("--only", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--peak", metavar="OBJECTIVE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    options.size = options.size or ("tiny" if on_cpu else "base")
    options.batch = options.batch or ((4 if options.quick else 16) if on_cpu else 512)
    options.repetitions = options.repetitions or (2 if options.quick else 5)
    options.steps = options.steps or (5 if on_cpu else 50)
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(options.peak, options)
        return 0
    machine = {**environment(), "device": options.device, "threads": options.threads}
    print(f"{machine}\nload average {os.getloadavg()[0]:.1f}")
    print(f"{options.size}, clips of {SECONDS} s, {options.batch} masked views a step")
    rows = measure(options)
    summarise(rows)
    if not options.quick:
        for name, share in waits(options).items():
            rows[name] |= {"peak": peak(name, options), "wait": share}
    missed = show(rows, options.device)
    if options.json:
        whole = {"machine": machine, "size": options.size, "objectives": rows}
        options.json.write_text(json.dumps(whole, indent=2, default=str), encoding="utf-8")
    for line in missed:
        print(f"missed: {line}")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
