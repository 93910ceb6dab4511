"""Which transforms run outside of PyTorch, and how equal and fast are they there?

    python benchmarks/exports.py [--quick] [--check] [--json FILE]

Each front end is exported to ONNX (through matrix products and convolutions, no Fourier operators),
run in onnxruntime on noise, and compared with the module; and compiled with `torch.compile` as one
graph (`fullgraph=True`). Seconds are medians on one clip of 2 s, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from sonoformer.run import environment
from sonoformer.spectral import FbankConfig, FrontEnd
from sonoformer.spectral.config import Transform

RATE, SECONDS, ALLOWED = 16000, 2, 2e-3
BASE = FbankConfig(sample_rate=RATE, n_mels=64, low_hz=60, mean=-4.0, std=4.0)
CONFIGS = {
    name: replace(BASE, transform=name) for name in get_args(Transform) if name != "mfcc"
} | {
    "mfcc": replace(BASE, transform="mfcc", n_mels=20),
    "kaldi, pcen": replace(BASE, compress="pcen"),
}


class Spectrogram(nn.Module):
    """A front end without lengths: what a graph for single clips needs."""

    def __init__(self, config: FbankConfig) -> None:
        super().__init__()
        self.front = FrontEnd(config)

    def forward(self, wave: Tensor) -> Tensor:
        return self.front(wave)[0]


def median(call: Callable[[], object], repetitions: int) -> float:
    call()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def row(config: FbankConfig, repetitions: int) -> dict[str, Any]:
    """Differences, seconds and operators of a front end."""
    onnx, runtime = import_module("onnx"), import_module("onnxruntime")
    module = Spectrogram(config).eval()
    wave = 0.1 * torch.randn(1, RATE * SECONDS, generator=torch.Generator().manual_seed(0))
    torch.compiler.reset()  # every front end is compiled from nothing
    with torch.no_grad():
        here = module(wave)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(wave)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.onnx"
        torch.onnx.export(module, (wave,), path, dynamo=True, verbose=False)
        operators = Counter(node.op_type for node in onnx.load(path).graph.node)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feeds = {session.get_inputs()[0].name: wave.numpy()}
        there = torch.from_numpy(session.run(None, feeds)[0])
        with torch.inference_mode():
            ours = median(lambda: module(wave), repetitions)
        theirs = median(lambda: session.run(None, feeds), repetitions)
    return {
        "onnx differs by": float((here - there).abs().max()),
        "compiled differs by": float((here - compiled).abs().max()),
        "module ms": 1000 * ours,
        "onnxruntime ms": 1000 * theirs,
        "operators": dict(operators),
        "fourier": sum(operators[name] for name in ("DFT", "STFT")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first three transforms")
    parser.add_argument("--check", action="store_true", help="exit 1 if one fails or differs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    bad = 0
    chosen = list(CONFIGS.items())[: 3 if options.quick else None]
    print(
        f"{'':12}{'ONNX, largest difference':>26}{'compiled':>12}{'module':>12}{'onnxruntime':>14}"
    )
    for name, config in chosen:
        try:
            found[name] = made = row(config, 5)
        except Exception as error:
            bad += 1
            print(f"{name:12}  failed: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
            continue
        wrong = max(made["onnx differs by"], made["compiled differs by"]) > ALLOWED
        wrong = wrong or made["fourier"] > 0
        bad += wrong
        print(
            f"{name:12}{made['onnx differs by']:26.1e}{made['compiled differs by']:12.1e}"
            f"{made['module ms']:9.1f} ms{made['onnxruntime ms']:11.1f} ms{'  WRONG' * wrong}"
        )
    if options.json:
        result = {"transforms": found, "environment": environment()}
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return 1 if options.check and bad else 0


if __name__ == "__main__":
    sys.exit(main())
