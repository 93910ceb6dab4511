"""What do methods with few weights cost, and what do they reach?

    python benchmarks/adaptation.py [--quick] [--check] [--json FILE] [--threads N]
    python benchmarks/adaptation.py --minutes 90 [--task drum-hits] [--encoder ssast-tiny-patch]
        [--methods NAME ...] [--seeds 3]

The first form measures training steps of AST base on eight clips of 512 tokens (filterbank,
forward, loss, backward, AdamW), each variant in a process of its own: `peak`, the memory of the
whole process, of which `rest` was there before the first step without the weights; `step`, the
median over the steps after the first, in processor seconds with one thread, wall seconds with more.
`again`: blocks are computed again in the backward pass.

The second form fills a grid for as many minutes: every method on a task of the suite, from an
encoder that comes along, in order of priority (methods with 16 clips of each class; fewer clips;
ablations; other rates; other seeds). All trainings have the same number of steps, and all but
`full` and `head` begin from a linear probe. Finished rows stand in --rows, which is committed; the
next call goes on with what is missing, which is printed at the end. A cell that has begun is
finished.

--quick tries both within a minute on small things. --check exits 1 if a target is missed, or cells
are missing.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptation_grid import RATE, ROWS, Grid, cells, fill, name_of, plot, quick_grid, read, show
from sonoformer.adaptation.petl import install
from sonoformer.data.batch import Batch
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.run import environment
from sonoformer.tasks.classification import Classifier
from sonoformer.tasks.model import Model
from sonoformer.training.config import OptimiserConfig
from sonoformer.training.optimisers import build_optimiser

MEASURED = ("full", "lora", "houlsby", "pfeiffer", "adaptformer", "conformer")
AGAIN = ("full", "lora")
# variant -> peak memory at most, of that of full fine-tuning
TARGETS = {name: 0.60 for name in MEASURED if name != "full"}


# Cost ---------------------------------------------------------------------------------------------


def memory(word: str) -> float:
    """GiB of this process: VmHWM, the most so far; VmRSS, now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) / 2**20


def print_cost(variant: str, options: argparse.Namespace) -> None:
    """Steps of a variant, after one that only makes the optimiser's moments."""
    torch.manual_seed(0)
    name, _, again = variant.partition(" ")
    rest = memory("VmRSS")
    encoder = AstEncoder(ast_config(options.size)).train()
    if name != "full":
        install(encoder, name)  # type: ignore[arg-type]
    encoder.checkpointing = bool(again)
    learner = Classifier(Model(encoder, [f"class {i}" for i in range(50)])).train()
    optimiser = build_optimiser(learner, OptimiserConfig(lr=1e-4))
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    samples = round((0.015 + 0.01 * 1024) * RATE)  # 1024 frames, 512 tokens
    wave = 0.1 * torch.randn(options.batch, samples)
    targets = nn.functional.one_hot(torch.arange(options.batch), 50).float()
    lengths, index = torch.full((options.batch,), samples), torch.arange(options.batch)
    batch = Batch(wave, lengths, index, targets=targets)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    times = []
    for _ in range(1 + options.repeat):
        began = clock()
        loss, _ = learner.loss(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        times.append(clock() - began)
    found = {
        "peak": memory("VmHWM"),
        "rest": rest,
        "step": statistics.median(times[1:]),
        "weights": sum(p.numel() for p in trained if p.requires_grad),
    }
    print(json.dumps(found))


def costs(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Variant -> figures."""
    variants = [*MEASURED, *(f"{name} again" for name in AGAIN)]
    found = {}
    for variant in ["full", "lora"] if options.quick else variants:
        words = [sys.executable, __file__, "--cost", variant, "--size", options.size]
        words += ["--batch", str(options.batch), "--threads", str(options.threads)]
        words += ["--repeat", str(options.repeat)]
        # Large blocks go back at once, so that peaks are what is needed and not what is strewn.
        lean = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=lean)
        found[variant] = json.loads(done.stdout.splitlines()[-1])
        row, full = found[variant], found["full"]
        row["of full"] = row["peak"] / full["peak"]
        row["step of full"] = row["step"] / full["step"]
        print(
            f"{variant:14}{row['weights'] / 1e6:9.2f} M{row['peak']:8.2f} GiB"
            f"{row['of full']:7.0%}{row['step']:9.1f} s{row['step of full']:7.0%}",
            flush=True,
        )
    return found


# Output -------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small models, one cell")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--plot", type=Path, help="picture of the task's rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", help="of the encoder whose cost is measured")
    parser.add_argument("--batch", type=int, help="clips in a step")
    parser.add_argument("--repeat", type=int, default=3, help="timed steps, after a first one")
    parser.add_argument("--minutes", type=float, help="fill the grid for so long")
    parser.add_argument("--task", default="drum-hits", help="of the suite")
    parser.add_argument("--encoder", default="ssast-tiny-patch")
    parser.add_argument("--methods", nargs="+", help="these rows of the grid alone")
    parser.add_argument("--steps", type=int, default=64, help="of a training, 16 clips each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/adaptation"))
    parser.add_argument("--data", type=Path, help="folder that holds the task's set")
    parser.add_argument("--cache", type=Path, help="of packed sound; --out/cache if absent")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--cost", metavar="VARIANT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.size = options.size or ("tiny" if options.quick else "base")
    options.batch = options.batch or (2 if options.quick else 8)
    torch.set_num_threads(options.threads)
    if options.cost:
        print_cost(options.cost, options)
        return 0
    machine = {**environment(), "threads": options.threads}
    print(f"{machine}\nload average {os.getloadavg()[0]:.1f}")
    failed: list[str] = []
    result: dict[str, Any] = {"machine": machine}
    if options.minutes is None:
        result["costs"] = costs(options)
        if not options.quick:
            for name, most in TARGETS.items():
                share = result["costs"][name]["of full"]
                if share > most:
                    failed.append(f"{name}: {share:.0%} of the memory, target {most:.0%}")
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            quick_grid(Path(folder))
    if options.minutes is not None:
        wanted = list(cells(options.task, options.encoder, options.seeds))
        if options.methods:
            wanted = [cell for cell in wanted if cell.method in options.methods]
        grid = Grid(options.task, options.encoder, options)
        missing = fill(grid, wanted, options.rows, options.minutes)
        result["rows"] = [asdict(row) for row in read(options.rows)]
        show([row for row in read(options.rows) if row.task == options.task])
        failed += [f"no row yet: {name_of(cell)}" for cell in missing]
    if options.plot:
        plot([row for row in read(options.rows) if row.task == options.task], options.plot)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, default=str), encoding="utf-8")
    for line in failed:
        print(f"missed: {line}")
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
