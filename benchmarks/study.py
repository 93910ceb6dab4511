"""Which objective teaches most for the same work? The grid of docs/study.md.

    python benchmarks/study.py --hours 2 [--size micro] [--pflop 0.02] [--objectives mspm mae]

Every cell is an objective and a seed: the recipe `small-pool` (one backbone, the same pool, the
same clips in the same order) for as many steps as --pflop pays for, counted by `objectives.py`;
then the task suite's fixed protocol with a frozen linear probe. Cells are done in order of
priority: all objectives with the first seed, then with the next. Another row, `random`, is the same
network as it begins.

--quick tries the whole road on sound of its own within a minute. --check exits 1 while cells of the
grid are missing.

Work lies in --out; a pretraining that the time cuts off is continued by the next call, and finished
rows stand in --rows, which is committed. At the end the table and the missing cells are printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from objectives import RATE, flops, learner_of, noise
from sonoformer.audio import write as write_sound
from sonoformer.data.catalogue.catalogue import fetch
from sonoformer.pretraining import OBJECTIVES

ROWS = Path(__file__).parent / "results" / "study.csv"
CROP = 2.56
# Options beside the recipe's.
# EAT's utterance term vanishes at the paper's weight (normalised targets average to nothing), and
# the papers' prototype heads, 2048 wide for each token, cost more than a small encoder.
HEAD = {"view": 1.5, "head": {"hidden": 512, "clip": 2048, "patch": 1024}}
OPTIONS: dict[str, dict[str, Any]] = {"eat": {"weight": 100.0}, "asit": HEAD, "asit-drop": HEAD}
# Objectives with several views of a clip take fewer clips a step.
BATCHES = defaultdict(lambda: 16, {"eat": 4, "asit": 8, "asit-drop": 8})


@dataclass(frozen=True)
class Row:
    """One figure of the study."""

    objective: str
    seed: int
    size: str
    pflop: float
    steps: int
    clips: int
    minutes: float
    task: str
    metric: str
    value: float
    low: float
    high: float
    floor: float
    chance: float


Cell = tuple[str, int]


def read(path: Path) -> list[Row]:
    """The rows that are done."""
    if not path.is_file():
        return []
    kinds = {
        "objective": str,
        "size": str,
        "task": str,
        "metric": str,
        "seed": int,
        "steps": int,
        "clips": int,
    }
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{f.name: kinds.get(f.name, float)(line[f.name]) for f in fields(Row)})
            for line in csv.DictReader(file)
        ]


def write(path: Path, rows: list[Row]) -> None:
    """All rows, in a fixed order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted(rows, key=lambda r: (r.size, r.objective, r.seed, r.pflop, r.task))
    fresh = path.with_suffix(".new")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    fresh.replace(path)


def steps_for(objective: str, size: str, pflop: float) -> int:
    """Steps of the objective that the budget pays for."""
    samples = round(CROP * RATE)
    learner = learner_of(objective, size, "cpu", OPTIONS.get(objective), samples)
    clip = flops(learner, noise(learner, 1, "cpu", samples))
    return max(1, round(pflop * 1e15 / clip / BATCHES[objective]))


def flags(name: str, options: dict[str, Any]) -> list[str]:
    """Options as the command line takes them."""
    words = []
    for key, value in options.items():
        whole = f"{name}.{key}"
        words += flags(whole, value) if isinstance(value, dict) else [f"--{whole}", str(value)]
    return words


def run(words: list[str], deadline: float) -> bool:
    """Run a verb of the command line; False if the time ran out, after everything was saved."""
    process = subprocess.Popen([sys.executable, "-m", "sonoformer", *words])
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGTERM)
            process.wait()
            return False
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"sonoformer {' '.join(words)}: ended with {process.returncode}")
    return True


def cell(
    objective: str, seed: int, options: argparse.Namespace, pool: Path, end: float
) -> list[Row]:
    """Pretrain and judge; no rows if the time ran out."""
    random = objective == "random"
    steps = 1 if random else steps_for(objective, options.size, options.pflop)
    name = f"{options.size}-{objective}-{seed}" + ("" if random else f"-{options.pflop:g}")
    folder = options.out / name
    state = folder / "metrics.json"
    if not state.is_file():
        words = ["pretrain", str(pool), "--recipe", "small-pool", "--seed", str(seed)]
        words += ["--objective", "mspm" if random else objective]
        words += flags(objective, OPTIONS.get(objective, {}))
        words += ["--size", options.size, "--crop", str(CROP)]
        words += [
            "--batch-size",
            str(BATCHES[objective]),
            "--steps",
            str(steps),
            "--out",
            str(folder),
            "--cache",
            str(options.cache),
        ]
        # A step at a rate of nothing leaves the network as it begins.
        words += ["--optimiser.lr", "1e-12"] if random else []
        words += ["--resume"] if folder.exists() else []
        words += ["--weights", "equal"] if options.quick else []
        if not run(words, end):
            return []
    suite = options.out / "suite" / name
    words = ["suite", str(folder), "--out", str(suite), "--cache", str(options.cache / "suite")]
    words += ["--data", str(options.data)] if options.data else []
    if not run([*words, *options.suite], end):
        return []
    seconds = json.loads(state.read_text(encoding="utf-8"))["seconds"]
    cost = (0.0, 0, 0, 0.0)
    if not random:
        cost = (options.pflop, steps, steps * BATCHES[objective], round(seconds / 60, 1))
    return [
        Row(objective, seed, options.size, *cost, *figures)
        for figures in _figures(json.loads((suite / "table.json").read_text(encoding="utf-8")))
    ]


def _figures(table: dict[str, list[dict[str, object]]]) -> list[tuple]:
    """Task, metric, value, interval, floor and chance of an encoder's rows."""
    found = []
    for row in table["rows"]:
        if row["encoder"] and row["value"] is not None:
            numbers = (row[name] for name in ("value", "low", "high", "floor", "chance"))
            cells = (math.nan if n is None else round(float(str(n)), 4) for n in numbers)
            found.append((row["task"], row["metric"], *cells))
    return found


def quick(folder: Path, options: argparse.Namespace) -> None:
    """Tones of two kinds to hear and to tell apart, and a budget of some seconds."""
    generator = np.random.default_rng(0)
    time_axis = np.arange(16000) / 16000
    lines = ["path,label,fold"]
    for number in range(16):
        kind = number % 2
        tone = np.sin(2 * np.pi * (300 + 900 * kind) * time_axis * (1 + 0.1 * generator.random()))
        path = folder / "pool" / f"{number}.wav"
        write_sound(path, (0.2 * tone + 0.01 * generator.normal(size=16000)).astype("f4"), 16000)
        lines.append(f"pool/{number}.wav,{'high' if kind else 'low'},{1 + number // 8}")
    table = folder / "tones.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options.pool, options.out, options.cache = folder / "pool", folder / "out", folder / "cache"
    options.rows, options.pflop, options.seeds = folder / "rows.csv", 2e-4, [0]
    options.objectives = ["mspm", "mae"]
    options.suite = ["--tasks", str(table), "--protocol", "folds", "--no-floor"]


def grid(options: argparse.Namespace) -> list[Cell]:
    """All cells, the first seed of all objectives before the second of any."""
    names = [*options.objectives, "random"]
    return [(name, seed) for seed in options.seeds for name in names]


def of(rows: list[Row], size: str, pflop: float) -> list[Row]:
    """Those of a backbone and a budget."""
    return [r for r in rows if r.size == size and r.pflop in (0.0, pflop)]


def done(rows: list[Row], cell: Cell) -> bool:
    return any((r.objective, r.seed) == cell for r in rows)


def table(rows: list[Row]) -> str:
    """Markdown: an objective a row, a task a column, means over seeds with their range."""
    tasks = sorted({r.task for r in rows})
    lines = ["| objective | seeds | clips | minutes | " + " | ".join(tasks) + " | mean gain |"]
    lines.append("|---" * (len(tasks) + 5) + "|")
    random = {t: [r.value for r in rows if r.task == t and r.objective == "random"] for t in tasks}
    for name in [*OBJECTIVES, "random"]:
        own = [r for r in rows if r.objective == name]
        if not own:
            continue
        cells, gains = [], []
        for task in tasks:
            values = [r.value for r in own if r.task == task]
            cells.append(_spread(values))
            if values and random[task]:
                gains.append(statistics.mean(values) / statistics.mean(random[task]) - 1)
        gain = f"{100 * statistics.mean(gains):+.1f} %" if gains else ""
        minutes = statistics.mean(r.minutes for r in own)
        head = f"{name} | {len({r.seed for r in own})} | {own[0].clips:,} | {minutes:.0f}"
        lines.append(f"| {head} | {' | '.join(cells)} | {gain} |")
    for label in ("floor", "chance"):
        found = [next(getattr(r, label) for r in rows if r.task == task) for task in tasks]
        shown = ("" if math.isnan(v) else f"{v:.3f}" for v in found)
        lines.append(f"| {label} | | | | {' | '.join(shown)} | |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


# The picture --------------------------------------------------------------------------------------


def picture(rows: list[Row], out: Path, path: Path) -> None:
    """Left: scores by task, a dot for each objective; right: each objective's training loss."""
    from matplotlib.figure import Figure

    names = [name for name in [*OBJECTIVES, "random"] if any(r.objective == name for r in rows)]
    tasks = sorted({r.task for r in rows})
    figure = Figure(figsize=(11, 0.5 * len(tasks) + 2), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[3, 2])
    left, right = halves
    axes = left.subplots()
    for place, name in enumerate(names):
        values = [
            statistics.mean(
                [r.value for r in rows if (r.objective, r.task) == (name, task)] or [math.nan]
            )
            for task in tasks
        ]
        offset = 0.08 * (place - (len(names) - 1) / 2)
        style = {"marker": "x", "color": "black"} if name == "random" else {"marker": "o"}
        axes.plot(
            values, [y + offset for y in range(len(tasks))], linestyle="", label=name, **style
        )
    for height, task in enumerate(tasks):
        floor = next(r.floor for r in rows if r.task == task)
        axes.plot([floor, floor], [height - 0.35, height + 0.35], color="grey", linewidth=1)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_xlabel("score of a linear probe (grey: the floor)")
    axes.invert_yaxis()
    axes.legend(fontsize=7)
    panels = [name for name in names if name != "random"]
    grid = right.subplots(-(-len(panels) // 2), 2, squeeze=False).flatten()
    for axes, name in zip(grid, panels, strict=False):
        for folder in sorted(out.glob(f"*-{name}-[0-9]-*")):
            steps, losses = _curve(folder / "metrics.csv")
            axes.plot(steps, losses)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    right.suptitle("training loss over steps", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _curve(path: Path) -> tuple[list[int], list[float]]:
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line.get("train/loss")]
    return [int(line["step"]) for line in lines], [float(line["train/loss"]) for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0, help="time for this call")
    parser.add_argument("--size", default="micro", help="backbone")
    parser.add_argument("--pflop", type=float, default=0.02, help="work of each pretraining, 1e15")
    parser.add_argument(
        "--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES)
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--pool", type=Path, help="table of recordings; shipped-pool by default")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--cache", type=Path, help="packed sound; OUT/cache by default")
    parser.add_argument("--data", type=Path, help="folder of further sets for the suite")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--plot", type=Path, help="also draw scores and curves, a PNG")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--quick", action="store_true", help="try the road on tones of its own")
    parser.add_argument("--check", action="store_true", help="exit 1 while cells are missing")
    parser.add_argument("suite", nargs="*", help="after --: further options of the suite")
    options = parser.parse_args()
    options.cache = options.cache or options.out / "cache"
    with tempfile.TemporaryDirectory() as scratch:
        if options.quick:
            quick(Path(scratch), options)
        missing = work(options)
    return 1 if options.check and missing else 0


def work(options: argparse.Namespace) -> list[Cell]:
    """Do as many cells as there is time for, and print; the cells that are missing."""
    end = time.monotonic() + 3600 * options.hours
    rows = read(options.rows)
    cells = grid(options)
    if not options.table:
        pool = options.pool or fetch("shipped-pool")
        for one in cells:
            if time.monotonic() > end:
                break
            if not done(of(rows, options.size, options.pflop), one):
                rows += cell(*one, options, pool, end)
                write(options.rows, rows)
    rows = of(rows, options.size, options.pflop)
    print(table(rows) if rows else "no rows yet")
    if rows and options.plot:
        picture(rows, options.out, options.plot)
    missing = [one for one in cells if not done(rows, one)]
    names = ", ".join(f"{name} seed {seed}" for name, seed in missing)
    print(f"\nmissing: {names or 'nothing'}")
    return missing


if __name__ == "__main__":
    sys.exit(main())
