"""The grid of `benchmarks/adaptation.py`: every method on a task of the suite."""

from __future__ import annotations

import argparse
import copy
import csv
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sonoformer.adaptation.parameters import AdaptationConfig, freeze
from sonoformer.adaptation.petl import METHODS, PetlConfig, install
from sonoformer.audio import write as write_sound
from sonoformer.data.augment import AugmentConfig
from sonoformer.encoders import load_encoder
from sonoformer.evaluation.metrics import joined
from sonoformer.evaluation.statistics import bootstrap
from sonoformer.settings import build, plain
from sonoformer.suite.config import FinetuneHead, SuiteConfig
from sonoformer.suite.finetuning import finetune_turn, recipe
from sonoformer.suite.opening import open_task
from sonoformer.suite.sets import choose

ROWS = Path(__file__).parent / "results" / "adaptation.csv"
RATE = 16000


@dataclass(frozen=True)
class Cell:
    """One training."""

    task: str
    encoder: str
    method: str
    shots: int = 16
    """clips a class"""
    option: str = ""
    """such as `place=sequential residual=false`, `positions=zero`, `head=norm_linear` or
    `augment=none`"""
    rate: float = 0.0
    """0: the method's own"""
    seed: int = 0


@dataclass(frozen=True)
class Row(Cell):
    """What it gave."""

    weights: int = 0
    metric: str = ""
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    steps: int = 0
    minutes: float = 0.0


BARE = ("probe", "full", "from a probe", "head")
CURVED = ("probe", "from a probe", "houlsby", "lora", "full")
PLACES = ("place=sequential", "place=parallel residual=true", "place=sequential residual=false")


def cells(task: str, encoder: str, seeds: int = 3) -> Iterator[Cell]:
    """All cells, the most telling first."""
    base = Cell(task, encoder, "probe")
    for seed in range(seeds):
        yield from (replace(base, method=name, seed=seed) for name in (*BARE, *METHODS))
        for name in ("lora", "conformer", "houlsby", "full"):
            yield replace(base, method=name, rate=1e-3, seed=seed)
        for shots in (4, 1):
            yield from (replace(base, method=name, shots=shots, seed=seed) for name in CURVED)
        for name in ("probe", "lora", "conformer"):
            yield replace(base, method=name, option="positions=zero", seed=seed)
        for name in ("pfeiffer", "houlsby"):
            yield from (replace(base, method=name, option=place, seed=seed) for place in PLACES)
        yield replace(base, method="lora", option="head=norm_linear", seed=seed)
        for targets in ("qkv", "all"):
            yield replace(base, method="lora", option=f"targets={targets}", seed=seed)
        for name in ("lora", "from a probe"):
            yield replace(base, method=name, option="augment=none", seed=seed)
        for shots in (8, 2):
            yield from (replace(base, method=name, shots=shots, seed=seed) for name in CURVED)


class Grid:
    """Trains cells on a task.

    Args:
        task, encoder: names.
        options: the folders, the steps of a training, and where to train.
    """

    def __init__(self, task: str, encoder: str, options: argparse.Namespace) -> None:
        self.out, self.steps, self.device = options.out, options.steps, options.device
        self.encoder = load_encoder(encoder).eval()
        self.config = SuiteConfig()
        self.cache = options.cache or self.out / "cache"
        opened = open_task(
            choose((task,))[0], "fixed", options.data, self.cache, problem=_complain, progress=None
        )
        if isinstance(opened, str):
            raise SystemExit(opened)
        self.opened = opened
        self.lesson = opened.lesson(int(self.encoder.sample_rate))

    def row(self, cell: Cell) -> Row:
        """Train and test a cell."""
        began = time.monotonic()
        encoder, options = self._encoder(cell), self._options(cell)
        name = "-".join(str(part) for part in asdict(cell).values() if part != "")
        answers = [
            finetune_turn(
                encoder,
                self.lesson,
                turn,
                options,
                self.out / "cells" / f"{name} {turn.name}".replace(" ", "-").replace("/", "_"),
                seed=cell.seed,
                device=self.device,
                cache=self.cache / f"packed-{self.lesson.clips.source.sample_rate}",
            )
            for turn in self.opened.turns
        ]
        interval = bootstrap(self.lesson.metric, [joined(answers)], resamples=1000)
        return Row(
            **asdict(cell),
            weights=self._weights(cell),
            metric=self.lesson.task.metric,
            value=round(interval.value, 4),
            low=round(interval.low or 0.0, 4),
            high=round(interval.high or 0.0, 4),
            steps=self.steps,
            minutes=round((time.monotonic() - began) / 60, 2),
        )

    def _encoder(self, cell: Cell) -> nn.Module:
        """The encoder that a cell starts from."""
        if cell.option != "positions=zero":
            return self.encoder
        # As in the authors' program, where the table of another length comes out as zeros.
        encoder: Any = copy.deepcopy(self.encoder)
        with torch.no_grad():
            encoder.pos_embed[:, encoder.config.prefix :].zero_()
        return encoder

    def _options(self, cell: Cell) -> Any:
        """The options of a cell: the suite's recipe with its method."""
        named = {"full": "train", "head": "train", "from a probe": "train"}
        method: Any = named.get(cell.method, cell.method)
        head: FinetuneHead = "probe"
        if cell.method in ("full", "head") or "head=norm_linear" in cell.option:
            head = "norm_linear"
        found = recipe(self.config, self.lesson.task.metric, 3e-4, head, pretrained=True)
        rate = cell.rate or (3e-4 if cell.method in ("full", "from a probe") else None)
        optimiser = replace(found.train.optimiser, lr=rate)
        adaptation = found.adaptation
        if cell.method == "head":
            adaptation = AdaptationConfig(weights="head")
        elif method != "train":
            adaptation = AdaptationConfig()
        return replace(
            found,
            method=method,
            adaptation=adaptation,
            augment=AugmentConfig() if cell.option == "augment=none" else found.augment,
            petl=self._petl(cell),
            shots=cell.shots,
            train=replace(found.train, optimiser=optimiser, steps=self.steps),
        ).with_rate()

    def _petl(self, cell: Cell) -> PetlConfig:
        words = [word.split("=") for word in cell.option.split()]
        words = [word for word in words if word[0] not in ("positions", "head", "augment")]
        given = {name: {"true": True, "false": False}.get(v, v) for name, v in words}
        return build(PetlConfig, {**plain(PetlConfig()), **given}, cell.option)

    def _weights(self, cell: Cell) -> int:
        """Weights of the encoder that train."""
        encoder: Any = copy.deepcopy(self.encoder)
        if cell.method in METHODS:
            install(encoder, cell.method, self._petl(cell))  # type: ignore[arg-type]
        else:
            whole = cell.method in ("full", "from a probe")
            freeze(encoder, AdaptationConfig(weights="full" if whole else "head"))
        return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def _complain(path: str, reason: str) -> None:
    print(f"left out: {path}: {reason}")


def read(path: Path) -> list[Row]:
    """The finished rows."""
    if not path.is_file():
        return []
    kinds: dict[str, Any] = {"int": int, "float": float, "str": str}
    hints = {field.name: kinds[str(field.type)] for field in fields(Row)}
    with open(path, encoding="utf-8", newline="") as file:
        return [Row(**{n: hints[n](v) for n, v in row.items()}) for row in csv.DictReader(file)]


def write(path: Path, rows: list[Row]) -> None:
    """All rows, in order, in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    os.replace(temporary, path)


def cell_of(row: Row) -> Cell:
    """The cell that a row belongs to."""
    return Cell(**{field.name: getattr(row, field.name) for field in fields(Cell)})


def fill(grid: Grid, wanted: list[Cell], path: Path, minutes: float) -> list[Cell]:
    """Train cells while there is time; those that are missing in the end."""
    began, rows = time.monotonic(), read(path)
    done = {cell_of(row) for row in rows}
    for cell in wanted:
        if cell in done:
            continue
        if time.monotonic() - began > 60 * minutes:
            break
        row = grid.row(cell)
        rows = [*read(path), row]
        write(path, rows)
        done.add(cell)
        print(f"{name_of(cell):60}{row.value:8.3f} ({row.minutes:.1f} min)", flush=True)
    return [cell for cell in wanted if cell not in done]


def name_of(cell: Cell) -> str:
    """A cell in words."""
    parts = [cell.method, f"{cell.shots} shots", cell.option]
    parts += [f"rate {cell.rate:g}" if cell.rate else "", f"seed {cell.seed}"]
    return ", ".join(part for part in parts if part)


def show(rows: list[Row]) -> None:
    """Means over seeds, the highest first."""
    seeds = Counter(replace(cell_of(row), seed=0) for row in rows)
    for row in sorted(_means(rows), key=lambda row: -row.value):
        cell = replace(cell_of(row), seed=0)
        print(
            f"{name_of(cell).removesuffix(', seed 0'):50}{row.weights:>10,}"
            f"{row.value:8.3f}  [{row.low:.3f}, {row.high:.3f}]  seeds {seeds[cell]}"
        )


def plot(rows: list[Row], path: Path) -> None:
    """Score of each method, and against clips a class; means over seeds, and the mean of their
    intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    methods, curves = figure.subplots(1, 2)
    plain_rows = [row for row in rows if not row.option and not row.rate]
    found = _means([row for row in plain_rows if row.shots == 16])
    found.sort(key=lambda row: (row.weights, row.value))
    for place, row in enumerate(found):
        methods.hlines(place, row.low, row.high, color="0.8", zorder=1)
        methods.plot(row.value, place, "o", color="C0", zorder=2)
    labels = [f"{row.method}  {row.weights:,}" for row in found]
    methods.set(yticks=range(len(found)), yticklabels=labels, xlim=(0, None))
    methods.set(xlabel=rows[0].metric.replace("_", " "))
    methods.set_title("16 clips of each class, by weights that train")
    methods.grid(axis="x", alpha=0.3)
    for number, name in enumerate(CURVED):
        found = sorted(_means([r for r in plain_rows if r.method == name]), key=lambda r: r.shots)
        shots = [row.shots for row in found]
        curves.plot(shots, [r.value for r in found], "o-", color=f"C{number}", label=name)
        bounds = ([r.low for r in found], [r.high for r in found])
        curves.fill_between(shots, *bounds, color=f"C{number}", alpha=0.1)
    curves.set(xscale="log", xticks=[1, 2, 4, 8, 16], xticklabels=[1, 2, 4, 8, 16])
    curves.set(xlabel="clips of each class", ylabel=rows[0].metric.replace("_", " "))
    curves.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _means(rows: list[Row]) -> list[Row]:
    """A row for each cell, the figures being means over its seeds."""
    groups: dict[Cell, list[Row]] = {}
    for row in rows:
        groups.setdefault(replace(cell_of(row), seed=0), []).append(row)
    return [
        replace(
            found[0],
            value=float(np.mean([row.value for row in found])),
            low=float(np.mean([row.low for row in found])),
            high=float(np.mean([row.high for row in found])),
        )
        for found in groups.values()
    ]


def quick_grid(folder: Path) -> None:
    """One cell on a table of tones."""
    rng, lines = np.random.default_rng(0), ["path,label,group,split"]
    for number in range(12):
        wave = 0.3 * np.sin(2 * np.pi * 300 * (1 + number % 2) * np.arange(RATE) / RATE)
        wave += rng.normal(0, 0.01, RATE)
        write_sound(folder / f"{number}.wav", wave.astype(np.float32), RATE)
        lines.append(f"{number}.wav,tone{number % 2},g{number},{'test' if number > 7 else 'train'}")
    table = folder / "tones.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    small = argparse.Namespace(out=folder / "out", steps=2, device="cpu", cache=None, data=None)
    grid, rows = Grid(str(table), "ssast-tiny-patch", small), folder / "rows.csv"
    wanted = [Cell("tones", "ssast-tiny-patch", name, shots=2) for name in ("probe", "lora")]
    assert not fill(grid, wanted, rows, 1.0)
    show(read(rows))
