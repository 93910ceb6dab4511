"""How fast is a pretraining step, and how near is it to what the machine can do?

    python benchmarks/pretrain_step.py [--quick] [--check] [--json FILE]

One step is: filterbank, masks, forward, loss, backward, Adam. SSAST tiny, patch tokens, 512 tokens
a clip of which 400 are hidden, fp32. Rows:

* `bound`      the encoder alone: forward, plain sum as loss, backward, Adam; a lower limit
* `default`    one pass for both losses, everything batched
* `two passes` a mask and a pass for each loss, everything batched
* `reference`  two passes with masks, heads and losses clip by clip in Python, as the authors do

Every row runs once in each repetition, in turn, beside a matrix product (sgemm) of the same moment,
so that other work on the machine falls on all of them. Figures are medians over repetitions. The
default step under bf16 autocast is timed beside; where the processor only emulates bf16, once and
with a single clip, for that takes longer than all the rest.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.nn.precision import bf16_is_fast
from sonoformer.pretraining import Mspm, MspmConfig
from sonoformer.run import environment
from sonoformer.training.config import OptimiserConfig
from sonoformer.training.optimisers import build_optimiser

SAMPLES = 1023 * 160 + 400  # 1024 frames: 8 x 64 patches
TOKENS, HIDDEN, DIM, DEPTH = 512, 400, 192, 12
# A product of (n, k) and (k, m) counts 2 n k m; the backward pass is twice the forward pass.
_LENGTH = TOKENS + 2
FLOPS = 3 * DEPTH * (24 * DIM**2 * _LENGTH + 4 * DIM * _LENGTH**2)
ADAM = OptimiserConfig(name="adam", lr=5e-4, betas=(0.95, 0.999), weight_decay=5e-7)
TARGETS = {"of bound": 0.92, "times two passes": 1.85, "of sgemm": 0.40}


class Bound(Mspm):
    """The encoder at the same task, with the cheapest loss there is."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        encoder = self.encoder
        patches = encoder.patches(*encoder.front(batch.wave, batch.lengths))
        (mask,) = self.masks(cast(Tensor, batch.noise), patches)
        replace = mask.dense(TOKENS), self.mask_token
        x = encoder.embed_patches(patches.pixels, patches.grid, replace=replace)
        return encoder.encode(x, patches.valid, patches.grid).x.sum(), {}

    def parameter_groups(self, lr: float) -> list[dict]:
        return [{"params": cast(AstEncoder, self.encoder).parameters(), "lr": lr}]


class Reference(Mspm):
    """The authors' training step around our encoder: Python loops over clips in two passes."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        spec, _ = self.encoder.front(batch.wave, batch.lengths)
        targets, predictions = self.one_pass(spec, self.classify)
        nce = torch.zeros(())
        correct = torch.zeros(())
        for target, prediction in zip(targets, predictions, strict=True):
            total = torch.mm(target, prediction.T)
            best = torch.argmax(torch.softmax(total, -1), dim=0)
            correct += torch.eq(best, torch.arange(HIDDEN)).sum()
            nce = nce - torch.diag(torch.log_softmax(total, -1)).sum()
        nce = nce / (len(spec) * HIDDEN)
        targets, predictions = self.one_pass(spec, self.reconstruct)
        mse = torch.mean((predictions - targets) ** 2)
        return nce + 10 * mse, {"accuracy": correct / (len(spec) * HIDDEN)}

    def one_pass(self, spec: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
        encoder = self.encoder
        pixels, grid, valid = encoder.patches(spec)
        ids = torch.empty(len(spec), HIDDEN, dtype=torch.long)
        hidden = torch.zeros(len(spec), TOKENS, dtype=torch.bool)
        for clip in range(len(spec)):
            ids[clip] = torch.tensor(authors_mask(TOKENS, HIDDEN, grid[1]))
            hidden[clip, ids[clip]] = True
        x = encoder.embed_patches(pixels, grid, replace=(hidden, self.mask_token))
        tokens = encoder.encode(x, valid, grid)
        targets = torch.empty(len(spec), HIDDEN, pixels.shape[-1])
        predictions = torch.empty(len(spec), HIDDEN, pixels.shape[-1])
        for clip in range(len(spec)):
            predictions[clip] = head(tokens.x[clip, ids[clip] + tokens.prefix, :])
            targets[clip] = pixels[clip, ids[clip], :].clone().detach()
        return targets, predictions


def authors_mask(tokens: int, count: int, width: int) -> list[int]:
    """SSAST's mask generator."""
    ids: list[int] = []
    side = random.randrange(3) + 3
    while len(set(ids)) <= count:
        start = random.randrange(tokens)
        for i in range(side):
            for j in range(side):
                candidate = start + width * i + j
                if 0 < candidate < tokens:
                    ids.append(candidate)
    return list(set(ids))[:count]


def step_of(learner: Mspm, batch: Batch, bf16: bool = False) -> Callable[[], None]:
    optimiser = build_optimiser(learner, ADAM)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss, _ = learner.loss(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def sgemm(size: int = 2048) -> Callable[[], float]:
    a, b, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    torch.mm(a, b, out=out)

    def rate() -> float:
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        return 2 * size**3 / (time.perf_counter() - began)

    return rate


def timed(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def step_on(
    clips: int, kind: type[Mspm], config: MspmConfig, bf16: bool = False
) -> Callable[[], None]:
    """A step of a fresh model on `clips` clips of noise."""
    learner = kind(AstEncoder(ast_config("tiny")), config, SAMPLES)
    wave, lengths = 0.1 * torch.randn(clips, SAMPLES), torch.full((clips,), SAMPLES)
    noise = torch.rand(clips, learner.noise)
    return step_of(learner, Batch(wave, lengths, torch.arange(clips), noise=noise), bf16)


def measure(batch_size: int, repetitions: int) -> dict:
    """Seconds of every row in every repetition, and what belongs to them."""
    torch.manual_seed(0)
    random.seed(0)
    steps = {"default": step_on(batch_size, Mspm, MspmConfig())}
    steps["default"]()
    steps["default"]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    steps["bound"] = step_on(batch_size, Bound, MspmConfig())
    steps["two passes"] = step_on(batch_size, Mspm, MspmConfig.reference())
    steps["reference"] = step_on(batch_size, Reference, MspmConfig.reference())
    rate = sgemm()
    for name, run in steps.items():
        if name != "default":
            run()
    times: dict[str, list[float]] = {name: [] for name in steps}
    rates = []
    for _ in range(repetitions):
        for name, run in steps.items():
            rates.append(rate())
            times[name].append(timed(run))
    return {
        "batch": batch_size,
        "repetitions": repetitions,
        "seconds": times,
        "bf16_clips_per_second": bf16_rate(batch_size),
        "sgemm_gflops": [r / 1e9 for r in rates],
        "flops_per_clip": FLOPS,
        "peak_rss_gib": peak,
    }


def bf16_rate(batch_size: int) -> float:
    """Clips a second of the default step under bf16 autocast."""
    if not bf16_is_fast("cpu"):
        return 1 / timed(step_on(1, Mspm, MspmConfig(), bf16=True))
    step = step_on(batch_size, Mspm, MspmConfig(), bf16=True)
    step()
    return batch_size / statistics.median(timed(step) for _ in range(3))


def summarise(found: dict) -> dict:
    """Medians, and ratios as medians over the repetitions of ratios within one repetition."""
    times = found["seconds"]
    median = {name: statistics.median(values) for name, values in times.items()}

    def ratio(slow: str, fast: str) -> float:
        return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))

    rate = statistics.median(found["sgemm_gflops"])
    return {
        "clips_per_second": {name: found["batch"] / value for name, value in median.items()},
        "bf16_clips_per_second": found["bf16_clips_per_second"],
        "sgemm_gflops": rate,
        "of bound": ratio("bound", "default"),
        "times two passes": ratio("two passes", "default"),
        "times reference": ratio("reference", "default"),
        "of sgemm": FLOPS * found["batch"] / median["default"] / 1e9 / rate,
        "peak_rss_gib": found["peak_rss_gib"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Time pretraining steps of SSAST tiny on the CPU.")
    parser.add_argument("--quick", action="store_true", help="batch 4, two repetitions")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        options.batch, options.repetitions = 4, 2
    found = measure(options.batch, options.repetitions)
    summary = summarise(found)
    machine = {**environment(), "processor": processor(), "threads": options.threads}
    if options.json:
        text = json.dumps({"machine": machine, **found, "summary": summary}, indent=2)
        options.json.write_text(text + "\n")
    print(f"{processor()}, {options.threads} threads, torch {torch.__version__}")
    print(f"SSAST tiny, {TOKENS} tokens, {HIDDEN} hidden, batch {options.batch}, fp32")
    for name, value in summary["clips_per_second"].items():
        print(f"  {name:<12}{value:7.2f} clips/s")
    emulated = "" if bf16_is_fast("cpu") else " (emulated)"
    print(f"  {'bf16':<12}{summary['bf16_clips_per_second']:7.2f} clips/s{emulated}")
    memory = summary["peak_rss_gib"]
    print(f"  sgemm {summary['sgemm_gflops']:.0f} GFLOP/s; peak memory {memory:.2f} GiB")
    missed = 0
    for name in ("of bound", "times two passes", "times reference", "of sgemm"):
        target = TARGETS.get(name)
        verdict = "" if target is None else f"  (target {target:.2f})"
        missed += target is not None and summary[name] < target
        print(f"  default {name:<18}{summary[name]:6.2f}{verdict}")
    return int(options.check and missed > 0)


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
