"""What do long sequences cost with state-space blocks, and what with attention?

    python benchmarks/long_sequences.py [--quick] [--check] [--json FILE] [--plot FILE]
        [--threads 1] [--device cuda] [--precision fp32] [--tokens 512 2048] [--batch 1 4]

Whole tiny encoders on spectrograms of 8 rows of patches: SSAMBA (24 blocks) with each form of its
scan, SSAMBA2, and AST (12 blocks) twice: `naive` keeps the matrix of all pairs of tokens, as the
program did that SSAMBA's paper compares itself with; `fused` is the attention that anybody would
use today. The paper's figures (tiny, about 22,000 tokens, batch 4, fp32, an L40): 92.7 % less time
and 95.4 % less memory than naive attention.

Each cell runs in a process of its own: a warm-up, then runs until three are done or 30 s are
spent. With one thread the time is the median of processor seconds, which other work on the machine
does not lengthen. Memory is the peak over what the process had before, weights not counted; on a
GPU the peak that was allocated. A cell that cannot fit says what it would need at least; one that
would take longer than `--patience` seconds, judged by the next smaller one, is not run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from sonoformer.encoders import PatchEncoder, ast_config, new_encoder, ssamba2_config, ssamba_config
from sonoformer.nn.blocks import Attention
from sonoformer.nn.mamba import Direction
from sonoformer.nn.selective_scan import selective_scan
from sonoformer.run import environment

TOKENS = [512, 2048, 8192, 22000, 75000]
CONTENDERS = [
    "ssamba blocked",
    "ssamba chunked",
    "ssamba kernel",
    "ssamba sequential",
    "ssamba2",
    "ast fused",
    "ast naive",
]
ROWS, PATCH = 8, 16
GIB = 2**30


# Contenders ---------------------------------------------------------------------------------------


def naive(
    self: Attention, x: Tensor, mask: Tensor | None = None, keep: int | None = None
) -> Tensor:
    """Attention with the matrix of all pairs in memory."""
    batch, tokens, dim = x.shape
    q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    weights = (q @ k.mT * (dim // self.heads) ** -0.5).softmax(-1)
    return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


def contenders(device: str) -> list[str]:
    """Those that can run on a device; the kernel needs CUDA and triton."""
    able = torch.device(device).type == "cuda" and find_spec("triton") is not None
    return [name for name in CONTENDERS if able or name != "ssamba kernel"]


def contender(name: str, size: str) -> PatchEncoder:
    """An encoder with random weights."""
    kind, _, form = name.partition(" ")
    torch.manual_seed(0)
    if kind == "ast":
        if form == "naive":
            Attention.forward = naive  # type: ignore[method-assign]
        return new_encoder(ast_config(size))
    encoder = new_encoder(ssamba_config(size) if kind == "ssamba" else ssamba2_config(size))
    for part in encoder.modules():
        if isinstance(part, Direction):
            part.form = form  # type: ignore[assignment]
    return encoder


def least_memory(name: str, size: str, tokens: int, batch: int, training: bool) -> float:
    """Bytes that cannot be done without in fp32, as far as they grow faster than the activations.

    Naive attention: scores and their softmax, of every block when gradients are wanted. The
    sequential form: decays and inputs of all tokens, likewise.
    """
    shape: Any = ast_config(size) if name.startswith("ast") else ssamba_config(size)
    if name == "ast naive":
        one = 4.0 * batch * shape.heads * tokens**2
        return one * (shape.depth + 1 if training else 2)
    if name == "ssamba sequential":
        one = 4.0 * batch * tokens * shape.dim * shape.expand * shape.states
        return one * (2 * 2 * shape.depth if training else 2)
    return 0.0


# Measuring ----------------------------------------------------------------------------------------


def run_cell(cell: dict[str, Any]) -> dict[str, float]:
    """Seconds and MiB of a cell, in this process."""
    device, training = cell["device"], cell["mode"] == "step"
    torch.set_num_threads(cell["threads"])
    encoder = contender(cell["name"], cell["size"]).to(device).train(training)
    frames = cell["tokens"] // ROWS * PATCH
    spec = torch.randn(cell["batch"], frames, ROWS * PATCH, device=device)
    half = cell["precision"] == "bf16"

    def once(clips: Tensor) -> None:
        cast = torch.autocast(device, torch.bfloat16) if half else nullcontext()
        with cast, torch.set_grad_enabled(training):
            pooled = encoder(clips).pool()
        if training:
            pooled.float().square().mean().backward()
            encoder.zero_grad(set_to_none=True)

    once(spec[:, : 64 * PATCH])
    if device != "cpu":
        once(spec)
    settle(device)
    before = mark(device)
    times: list[float] = []
    began = time.perf_counter()
    while not times or (len(times) < 3 and time.perf_counter() - began < 30):
        clock = time.process_time if device == "cpu" and cell["threads"] == 1 else time.perf_counter
        start = clock()
        once(spec)
        settle(device)
        times.append(clock() - start)
    return {"seconds": statistics.median(times), "mib": high_water(device) - before}


def settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def mark(device: str) -> float:
    """MiB in use now, from where the peak is counted."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return high_water(device)


def high_water(device: str) -> float:
    """MiB that were in use at most."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def room(device: str) -> float:
    """Bytes that a cell may take."""
    if device != "cpu":
        return float(torch.cuda.mem_get_info()[0])
    return 0.9 * psutil.virtual_memory().available


def grid(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells, each contender's shorter ones first."""
    return [
        {
            "name": name,
            "size": options.size,
            "mode": mode,
            "batch": batch,
            "tokens": tokens // ROWS * ROWS,
            "device": options.device,
            "threads": options.threads,
            "precision": options.precision,
        }
        for mode in options.modes
        for batch in options.batch
        for name in options.only
        for tokens in options.tokens
    ]


def measure(cells: list[dict[str, Any]], patience: float) -> list[dict[str, Any]]:
    """The cells with `seconds` and `mib`, or with `why` they have none."""
    done: list[dict[str, Any]] = []
    for cell in cells:
        needs = least_memory(
            cell["name"], cell["size"], cell["tokens"], cell["batch"], cell["mode"] == "step"
        )
        smaller = [
            row for row in done if all(row[key] == cell[key] for key in ("name", "mode", "batch"))
        ]
        if needs > room(cell["device"]):
            found: dict[str, Any] = {"why": f"needs at least {needs / GIB:.1f} GiB"}
        elif (guess := expected(smaller, cell)) > patience:
            found = {"why": f"not run: would take about {guess:.0f} s"}
        else:
            words = [sys.executable, __file__, "--cell", json.dumps(cell)]
            done_ = subprocess.run(words, capture_output=True, text=True, check=False)
            last = done_.stdout.strip().splitlines()[-1:] or [""]
            found = json.loads(last[0]) if done_.returncode == 0 else {"why": cause(done_.stderr)}
        done.append({**cell, **found})
        show(done[-1])
    return done


def expected(smaller: list[dict[str, Any]], cell: dict[str, Any]) -> float:
    """Seconds that a cell will take, from the longest one before it; inf if that was not run."""
    if not smaller:
        return 0.0
    last = smaller[-1]
    if "seconds" not in last:
        return float("inf")
    power = 2 if cell["name"].startswith("ast") else 1
    return float(last["seconds"] * (cell["tokens"] / last["tokens"]) ** power)


def cause(stderr: str) -> str:
    """Why a process ended, in a line."""
    if "out of memory" in stderr.lower() or not stderr.strip():
        return "out of memory"
    return stderr.strip().splitlines()[-1][:120]


def bandwidth_share(device: str, size: str, tokens: int = 22000, batch: int = 4) -> float:
    """What share of the memory's speed a scan's inputs and outputs alone are moved at."""
    shape = ssamba_config(size)
    inner = shape.dim * shape.expand
    u, delta = torch.rand(2, batch, tokens, inner, device=device).unbind(0)
    b, c = torch.rand(2, batch, tokens, shape.states, device=device).unbind(0)
    a = -torch.rand(inner, shape.states, device=device)
    block = torch.empty(2**28 if device != "cpu" else 2**24, device=device)
    other = torch.empty_like(block)

    def speed(call: Any, moved: float) -> float:
        call()
        settle(device)
        began = time.perf_counter()
        for _ in range(3):
            call()
        settle(device)
        return 3 * moved / (time.perf_counter() - began)

    with torch.no_grad():
        limit = speed(lambda: other.copy_(block), 8.0 * block.numel())
        moved = 4.0 * (3 * u.numel() + 2 * b.numel())
        return speed(lambda: selective_scan(u, delta, a, b, c), moved) / limit


# Output -------------------------------------------------------------------------------------------


def show(row: dict[str, Any]) -> None:
    place = f"{row['mode']:8} batch {row['batch']}  {row['tokens']:6} tokens  {row['name']:18}"
    if "why" in row:
        print(f"{place} {row['why']}", flush=True)
    else:
        print(f"{place} {row['seconds']:9.3f} s {row['mib']:10.0f} MiB", flush=True)


def misses(rows: list[dict[str, Any]]) -> list[str]:
    """Targets that are missed; a cell of naive attention that cannot fit misses none."""
    by = {(r["name"], r["tokens"], r["batch"]): r for r in rows if r["mode"] == "forward"}
    missed = []
    for (name, tokens, batch), row in by.items():
        if name not in ("ssamba blocked", "ssamba2") or "seconds" not in row:
            continue
        slow, fused = by.get(("ast naive", tokens, batch)), by.get(("ast fused", tokens, batch))
        if name == "ssamba blocked" and tokens >= 20000 and batch == 1:
            if slow and "seconds" in slow and row["seconds"] * 3 > slow["seconds"]:
                missed.append(f"{name}, {tokens} tokens: less than 3x faster than naive attention")
            if slow and "mib" in slow and row["mib"] > 0.1 * slow["mib"]:
                missed.append(f"{name}, {tokens} tokens: more than 10 % of naive's memory")
        first = 20000 if name == "ssamba blocked" else 8000
        late = fused and "seconds" in fused and row["seconds"] > fused["seconds"]
        if tokens >= first and late:
            missed.append(f"{name}, {tokens} tokens, batch {batch}: slower than fused attention")
    return missed


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and memory against tokens, a column of panels for each mode and batch."""
    import matplotlib.pyplot as plt

    places = list(dict.fromkeys((row["mode"], row["batch"]) for row in rows))
    figure, axes = plt.subplots(
        2, len(places), figsize=(4.5 * len(places), 7), squeeze=False, sharex=True
    )
    for column, (mode, batch) in enumerate(places):
        for line, (key, label) in enumerate((("seconds", "s"), ("mib", "MiB"))):
            axis = axes[line][column]
            for colour, name in enumerate(CONTENDERS):
                kept = [
                    row
                    for row in rows
                    if (row["name"], row["mode"], row["batch"]) == (name, mode, batch)
                    and row.get(key, 0) > 0
                ]
                if kept:
                    cells = [[r["tokens"] for r in kept], [r[key] for r in kept]]
                    axis.plot(*cells, "o-", color=f"C{colour}", label=name)
            axis.set(xscale="log", yscale="log", ylabel=label)
            axis.grid(alpha=0.3)
        axes[0][column].set_title(f"{mode}, batch {batch}")
        axes[1][column].set_xlabel("tokens")
        if axes[0][column].get_legend_handles_labels()[0]:
            axes[0][column].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short clips of a micro encoder")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--modes", nargs="+", default=["forward", "step"])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    parser.add_argument("--patience", type=float, default=900.0, help="seconds for one run")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(run_cell(json.loads(options.cell))))
        return 0
    options.only = options.only or contenders(options.device)
    if options.quick:
        options.size, options.tokens, options.batch = "micro", [64, 256], [1]
    print(f"{environment()}\nload average {os.getloadavg()[0]:.1f}")
    rows = measure(grid(options), options.patience)
    result = {"environment": environment(), "device": options.device, "cells": rows}
    if options.device != "cpu":
        result["bandwidth_share"] = bandwidth_share(options.device, options.size)
        print(f"scan: {result['bandwidth_share']:.0%} of the memory's speed (target 50 %)")
    missed = misses(rows)
    for line in missed:
        print(f"missed: {line}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
