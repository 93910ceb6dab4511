"""Small sets on the disk in the form of the catalogue's, and a small encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sonoformer.audio import write
from sonoformer.encoders import AstConfig, AstEncoder, save_encoder

RATE = 16000


def tone(hz: float, seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)
    return (wave + rng.normal(0, 0.02, len(wave))).astype(np.float32)


def save(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """drum-hits of four kits, with a copy and a file that is no sound; russian-phones; FSDD."""
    root = tmp_path_factory.mktemp("data")
    _drums(root / "drum-hits")
    _phones(root / "russian-phones")
    _digits(root / "fsdd")
    return root


def _drums(folder: Path) -> None:
    rows = ["path,labels,fold,group"]
    for k, kit in enumerate(("BJA_Pacific", "The Black Pearl 1.0", "Audiophob", "VariBreaks")):
        for n in range(9):
            name = f"{k}-{n}.wav"
            write(
                folder / name, tone((200, 800, 3000)[n % 3] * (1 + 0.05 * k), 0.4, 9 * k + n), RATE
            )
            rows.append(f"{name},{('kick', 'snare', 'ride')[n % 3]},{kit},{kit}")
    (folder / "copy.wav").write_bytes((folder / "0-0.wav").read_bytes())
    (folder / "bad.wav").write_bytes(b"no sound")
    rows += ["copy.wav,kick,Audiophob,Audiophob", "bad.wav,kick,Audiophob,Audiophob"]
    save(folder / "manifest.csv", rows)


def _phones(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,start,end,labels,fold,group"]
    for number in (1, 2, 3, 4, 700, 701):
        name, parts, start = f"ru_{number:04d}", [], 0.0
        for n in range(6):
            label, seconds = ("a", "i", "u")[rng.integers(3)], 0.2 + 0.1 * rng.integers(3)
            parts.append(tone({"a": 300, "i": 1200, "u": 4000}[label], seconds, 7 * number + n))
            rows.append(
                f"{name}.wav,{start:.3f},{start + seconds:.3f},{label},{number % 5 + 1},{name}"
            )
            start += seconds
        write(folder / f"{name}.wav", np.concatenate(parts), RATE)
    save(folder / "manifest.csv", rows)


def _digits(folder: Path) -> None:
    rows = ["path,digit,speaker,take,official_split"]
    for speaker, hz in (("ann", 300), ("bob", 2000)):
        for digit in range(10):
            for take in range(2):
                name = f"audio/{digit}_{speaker}_{take}.wav"
                write(folder / name, tone(hz * (1 + digit / 20), 0.3, digit * 2 + take), RATE)
                rows.append(f"{name},{digit},{speaker},{take},train")
    save(folder / "manifest.csv", rows)


@pytest.fixture(scope="session")
def encoder() -> AstEncoder:
    torch.manual_seed(0)
    return AstEncoder(AstConfig(dim=24, depth=2, heads=2)).eval()


@pytest.fixture(scope="session")
def checkpoint(encoder: AstEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    extra = {"heard": {"sets": ["debian-pool"], "held_out": True}}
    return save_encoder(encoder, tmp_path_factory.mktemp("made") / "small", "card", extra=extra)
