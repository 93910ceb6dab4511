"""What can be imported without the heavy packages, and what importing must not pull in."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Asking whether a package is there is allowed (polars asks for torch); importing it is not.
BLOCKED = """
import importlib.machinery, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise ImportError(spec.name + " is blocked")
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Blocker())
import importlib
for name in {wanted}:
    importlib.import_module(name)
"""
HEAVY = {"torch", "lightning", "matplotlib", "sklearn", "transformers", "torchmetrics"}
LIGHT = [
    "sonoformer",
    "sonoformer.errors",
    "sonoformer.files",
    "sonoformer.settings",
    "sonoformer.audio",
    "sonoformer.data.manifest",
    "sonoformer.data.splits",
    "sonoformer.data.leaks",
    "sonoformer.data.catalogue",
    "sonoformer.data.events",
    "sonoformer.data.annotations",
    "sonoformer.data.soundscapes",
    "sonoformer.cli.main",
]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_tables_and_audio_need_no_torch() -> None:
    done = run(BLOCKED.format(blocked=HEAVY, wanted=LIGHT))
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    done = run(BLOCKED.format(blocked=HEAVY, wanted=["sonoformer.nn.blocks"]))
    assert "torch is blocked" in done.stderr


@pytest.mark.parametrize("name", ["sonoformer", "sonoformer.encoders"])
def test_models_are_loaded_without_the_trainer(name: str) -> None:
    done = run(f"import sys, {name}; print(sorted(set(sys.modules) & {HEAVY - {'torch'}}))")
    assert done.stdout.strip() == "[]", done.stderr
