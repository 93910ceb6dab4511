"""How fast are waveforms turned into logits, beside transformers with the same weights?

    python benchmarks/inference.py [--quick] [--check] [--json FILE]

AST base (86 M weights), clips of 10 s at 16 kHz, batches of 1 and 8, the same number of threads.
Theirs: ASTFeatureExtractor and ASTForAudioClassification as they come (default attention; without
torchaudio the extractor computes its filterbank in NumPy, which is said in the output). Ours: the
front end in the model, and the same weights and norm epsilon. Logits are compared first.

Rows run in turn in each repetition, so that other work on the machine falls on all of them. Figures
are medians over repetitions; a ratio is above 1 where ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from sonoformer.nn.precision import bf16_is_fast
from sonoformer.run import environment
from sonoformer.spectral import FbankConfig, FrontEnd
from sonoformer.tasks.model import Model, load_model

CLASSES, SECONDS, RATE = 527, 10, 16000
EPS = 1e-6
TARGETS = {"end to end": 1.1, "front end": 5.0, "bf16": 1.5, "logits": 5e-6}


class Theirs:
    """transformers' extractor and model."""

    def __init__(self) -> None:
        self.extract = transformers.ASTFeatureExtractor()
        config = transformers.ASTConfig(layer_norm_eps=EPS)
        config.num_labels = CLASSES
        torch.manual_seed(0)
        self.model = transformers.ASTForAudioClassification(config).eval()

    def features(self, waves: list[Any]) -> Tensor:
        return self.extract(waves, sampling_rate=RATE, return_tensors="pt")["input_values"]

    def __call__(self, waves: list[Any]) -> Tensor:
        return self.model(self.features(waves)).logits


def copied(theirs: Theirs) -> Model:
    """The same model here, by the folder that transformers writes."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.model.save_pretrained(folder)
        theirs.extract.save_pretrained(folder)
        return load_model(folder)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(calls: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each call, all run in turn in each repetition, after one warm-up each."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            found[name].append(seconds(call))
    return {name: statistics.median(values) for name, values in found.items()}


@torch.inference_mode()
def run(repetitions: int, batches: tuple[int, ...]) -> dict[str, Any]:
    theirs = Theirs()
    ours = copied(theirs)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for batch in batches:
        wave = torch.randn(batch, SECONDS * RATE, generator=generator) * 0.1
        waves = [clip.numpy() for clip in wave]
        front = FrontEnd(FbankConfig(padding="reference"))
        gap = (theirs(waves) - ours.logits(wave)).abs().max().item()
        calls: dict[str, Callable[[], object]] = {
            "theirs": lambda waves=waves: theirs(waves),  # type: ignore[misc]
            "ours": lambda wave=wave: ours.logits(wave),  # type: ignore[misc]
            "their front end": lambda waves=waves: theirs.features(waves),  # type: ignore[misc]
            "our front end": lambda wave=wave, front=front: front(wave),  # type: ignore[misc]
        }
        if bf16_is_fast(torch.device("cpu")):
            calls["ours bf16"] = lambda wave=wave: _bf16(ours.logits, wave)  # type: ignore[misc]
            calls["theirs bf16"] = lambda waves=waves: _bf16(theirs, waves)  # type: ignore[misc]
        rows.append({"batch": batch, "logits differ by": gap, **measure(calls, repetitions)})
    return {"rows": rows, "threads": torch.get_num_threads(), "environment": environment()}


def _bf16(model: Callable[[Any], Tensor], audio: Any) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(audio)


def show(result: dict[str, Any]) -> list[str]:
    """Print the table; the targets that are missed."""
    missed = []
    facts = result["environment"]
    print(f"{facts}\ntransformers {transformers.__version__}, {result['threads']} threads")
    if not transformers.utils.is_speech_available():
        print("their extractor runs without torchaudio: its filterbank is NumPy's")
    for row in result["rows"]:
        both = row["theirs"] / row["ours"]
        front = row["their front end"] / row["our front end"]
        print(
            f"batch {row['batch']}: theirs {row['theirs']:.3f} s, ours {row['ours']:.3f} s "
            f"({both:.2f}x); front end {row['their front end'] * 1e3:.1f} ms against "
            f"{row['our front end'] * 1e3:.2f} ms ({front:.1f}x); logits differ by at most "
            f"{row['logits differ by']:.1e}"
        )
        figures = {"end to end": both, "front end": front}
        if "ours bf16" in row:
            figures["bf16"] = row["theirs"] / row["ours bf16"]
            print(f"  bf16: {row['ours bf16']:.3f} s ({figures['bf16']:.2f}x theirs in fp32)")
        missed += [
            f"{name}, batch {row['batch']}: {value:.2f}, target {TARGETS[name]}"
            for name, value in figures.items()
            if value < TARGETS[name]
        ]
        if row["logits differ by"] > TARGETS["logits"]:
            missed.append(f"logits differ by {row['logits differ by']:.1e}, target 5e-6")
    if not any("ours bf16" in row for row in result["rows"]):
        print("bf16: left out, this processor has neither AVX512-BF16 nor AMX")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    result = run(3 if options.quick else 9, (1,) if options.quick else (1, 8))
    missed = show(result)
    if options.json:
        options.json.write_text(json.dumps({**result, "targets": TARGETS}, indent=2, default=str))
    for line in missed:
        print(f"missed: {line}")
    if options.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
