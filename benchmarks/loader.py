"""How many ten-second crops a second reach the training process?

    python benchmarks/loader.py [--quick] [--check] [--json FILE]

Recordings of 30 s are synthesised into a temporary folder: FLAC at 16 and at 48 kHz, 16 bits, and a
cache packed from them. Each row is a loader of batches of 16 random crops of 10 s at 16 kHz, as
float32 in the training process, with the random numbers of masked prediction (1361 a clip):

* packed: from the cache, which is in memory by then; in this process and with one worker;
* flac: sliced straight from the files, with one worker;
* usual: torch's DataLoader with one worker over a data set that decodes a file whole with
  soundfile, crops, and gives float32 to torch's own collation.

Rows run in turn in each repetition, so that other work on the machine falls on all of them. What a
worker prepared ahead is taken out before the clock starts. Figures are medians over repetitions.
The CPU time of the process that prepares the batches tells a slow loader from a busy machine.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import soxr
import torch
from torch.utils.data import DataLoader, Dataset

from sonoformer.audio import write
from sonoformer.data.cache import pack
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.loader import StepLoader
from sonoformer.data.order import Order
from sonoformer.data.sources import ClipSource, FileSource, Stretch
from sonoformer.data.workers import start_method
from sonoformer.run import environment

RATE, SECONDS, WHOLE, BATCH, NOISE = 16000, 10, 30, 16, 1361
AHEAD = 2
TARGETS = {"packed, one worker": 3000.0, "flac 16 kHz, one worker": 60.0}


class Usual(Dataset[torch.Tensor]):
    """A file decoded whole and cropped, as loaders of published code do."""

    def __init__(self, stretches: list[Stretch]) -> None:
        self.paths = [stretch.path for stretch in stretches]

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> torch.Tensor:
        samples, rate = soundfile.read(self.paths[index % len(self.paths)], dtype="float32")
        if rate != RATE:
            samples = soxr.resample(samples, rate, RATE)
        begin = int(torch.randint(len(samples) - SECONDS * RATE, ()))
        return torch.from_numpy(samples[begin : begin + SECONDS * RATE])


def recordings(folder: Path, rate: int, count: int) -> list[Stretch]:
    """Tones in noise: FLAC can shorten them, but not to nothing."""
    random = np.random.default_rng(rate)
    time_axis = np.arange(WHOLE * rate) / rate
    stretches = []
    for number in range(count):
        tone = 0.2 * np.sin(2 * np.pi * random.uniform(200, 3000) * time_axis)
        noise = np.convolve(random.standard_normal(len(tone)), np.ones(8) / 8, "same") * 0.05
        path = folder / f"{rate}-{number:03d}.flac"
        write(path, (tone + noise).astype(np.float32), rate)
        stretches.append(Stretch(str(path), 0.0, float(WHOLE)))
    return stretches * math.ceil(BATCH / count)  # at least a batch


def loader(source: ClipSource, workers: int) -> Iterator[Any]:
    dataset = ClipDataset(source, crop=SECONDS * RATE, seed=0, train=True, noise=NOISE)
    order = Order(len(dataset), batch_size=BATCH, seed=0)
    steps = StepLoader(dataset, order, start=0, stop=10**9, workers=workers, prefetch=AHEAD)
    return iter(steps)


def usual(stretches: list[Stretch]) -> Iterator[Any]:
    context = start_method()
    data: DataLoader[torch.Tensor] = DataLoader(
        Usual(stretches), BATCH, num_workers=1, multiprocessing_context=context
    )
    return iter(data)


class Row:
    """A loader being timed.

    Args:
        make: starts the loader.
        count: batches a measurement.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], count: int) -> None:
        before = set(multiprocessing.active_children())
        batches = make()
        next(batches)
        workers = set(multiprocessing.active_children()) - before
        self.batches, self.count = batches, count
        # What prepares the batches: the worker, or this process.
        self.process = psutil.Process(next((worker.pid for worker in workers), None))
        self.found: list[tuple[float, float]] = []

    def measure(self) -> None:
        """Crops a second, and a second of the preparing process's own time."""
        for _ in range(AHEAD + 1):
            next(self.batches)
        began, worked = time.perf_counter(), sum(self.process.cpu_times()[:2])
        for _ in range(self.count):
            next(self.batches)
        seconds = time.perf_counter() - began
        own = sum(self.process.cpu_times()[:2]) - worked
        crops = self.count * BATCH
        self.found.append((crops / seconds, crops / max(own, 0.01)))

    @property
    def medians(self) -> dict[str, float]:
        """Medians without the first measurement, which warms up."""
        wall, own = (statistics.median(values) for values in zip(*self.found[1:], strict=True))
        return {"crops_per_second": wall, "crops_per_own_second": own}


def run(folder: Path, files: int, repetitions: int, long: int, short: int) -> dict[str, Any]:
    flac = {rate: recordings(folder, rate, files) for rate in (16000, 48000)}
    began = time.perf_counter()
    packed = pack(flac[16000] + flac[48000], folder / "packed", RATE)
    packing = packed.added * WHOLE / (time.perf_counter() - began)
    rows = {
        "packed, no worker": Row(partial(loader, packed.cache, 0), long),
        "packed, one worker": Row(partial(loader, packed.cache, 1), long),
        "flac 16 kHz, one worker": Row(partial(loader, FileSource(flac[16000], RATE), 1), short),
        "flac 48 kHz, one worker": Row(partial(loader, FileSource(flac[48000], RATE), 1), short),
        "usual, flac 16 kHz": Row(partial(usual, flac[16000]), short),
        "usual, flac 48 kHz": Row(partial(usual, flac[48000]), short),
    }
    for _ in range(repetitions + 1):
        for row in rows.values():
            row.measure()
    return {
        "rows": {name: row.medians for name, row in rows.items()},
        "packing_times_real_time": packing,
        "repetitions": repetitions,
        "load_average": os.getloadavg()[0],
        "environment": environment(),
    }


def show(result: dict[str, Any]) -> list[str]:
    """Print the table; the targets that are missed."""
    print(f"{result['environment']}\nload average {result['load_average']:.1f}")
    print(f"{'':26}{'crops/s':>10}{'per CPU second of who prepares':>36}")
    for name, row in result["rows"].items():
        print(f"{name:26}{row['crops_per_second']:10.0f}{row['crops_per_own_second']:36.0f}")
    rates = {name: row["crops_per_second"] for name, row in result["rows"].items()}
    for rate in (16, 48):
        ratio = rates[f"flac {rate} kHz, one worker"] / rates[f"usual, flac {rate} kHz"]
        print(f"flac {rate} kHz: {ratio:.1f}x the usual way")
    print(f"packing decoded {result['packing_times_real_time']:.0f} s of sound a second")
    return [
        f"{name}: {rates[name]:.0f}, target {target:.0f}"
        for name, target in TARGETS.items()
        if rates[name] < target
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    # The training process has threads to convert with; one makes the figure plainer.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sizes = (8, 3, 100, 4) if options.quick else (40, 9, 400, 12)
        result = run(Path(folder), *sizes)
    missed = show(result)
    if options.json:
        options.json.write_text(json.dumps({**result, "targets": TARGETS}, indent=2, default=str))
    for line in missed:
        print(f"missed: {line}")
    if options.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
