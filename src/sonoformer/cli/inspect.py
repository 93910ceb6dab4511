"""`sonoformer inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sonoformer.audio import probe, read_native
from sonoformer.cli.options import console, say
from sonoformer.cli.tables import Columns, Root, Separator, read_labels
from sonoformer.data.columns import ColumnMap
from sonoformer.errors import UserError, brief
from sonoformer.files import read_json

_WEIGHTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
_TABLES = (".csv", ".tsv", ".parquet", ".txt")


def inspect(
    path: Path,
    /,
    *,
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    root: Root = None,
) -> None:
    """Say what a recording, a table, a checkpoint, a weights file or a run holds.

    Example: sonoformer inspect runs/pretrain
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        if (path / "run.json").is_file():
            _run(path)
        elif _is_published(path):
            _published(path)
        elif (path / "model.safetensors").is_file():
            _checkpoint(path)
        else:
            _table(path, columns, separator, root)
    elif path.suffix.lower() in _TABLES:
        _table(path, columns, separator, root)
    elif _is_published(path):
        _published(path)
    else:
        _recording(path)


def _recording(path: Path) -> None:
    import numpy as np

    info = probe(path)
    facts: dict[str, Any] = {
        "format": f"{info.format} {info.subtype}",
        "sample rate": f"{info.sample_rate} Hz",
        "channels": info.channels,
        "length": f"{info.duration:.3f} s",
        "recorded at": info.recorded_at or "unknown",
    }
    samples, rate = read_native(path, end=min(info.duration, 60.0) or None)
    peak, power = float(np.abs(samples).max()), float(np.square(samples, dtype=np.float64).mean())
    seconds = len(samples) / rate
    facts["level"] = (
        f"peak {_decibels(peak):.1f} dBFS, mean {_decibels(power**0.5):.1f} dBFS "
        f"(first {seconds:.1f} s)"
        if peak
        else f"digital silence (first {seconds:.1f} s)"
    )
    _show(str(path), facts)


def _table(path: Path, columns: ColumnMap, separator: str | None, root: Path | None) -> None:
    from sonoformer.data.summary import render, summarise

    manifest = read_labels(path, columns, separator, root)
    console.print(render(summarise(manifest)))
    for finding in manifest.check():
        say(f"{finding.severity}: {finding}")


def _run(path: Path) -> None:
    state = read_json(path / "run.json")
    facts = {name: value for name, value in state.items() if name != "command"}
    facts["command"] = " ".join(state.get("command", []))
    _show(f"{path}: a run of {state.get('verb')}", facts)
    if (path / "metrics.json").is_file():
        say(json.dumps(read_json(path / "metrics.json"), indent=2)[:2000])
    if (path / "problems.csv").is_file():
        say((path / "problems.csv").read_text(encoding="utf-8")[:2000])
    if (path / "model" / "config.json").is_file():
        _checkpoint(path / "model")


def _checkpoint(path: Path) -> None:
    from sonoformer.weights import load_checkpoint

    tensors, config = load_checkpoint(path)
    parts: dict[str, int] = {}
    for name, value in tensors.items():
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + value.numel()
    facts: dict[str, Any] = {f"{part} weights": f"{count:,}" for part, count in parts.items()}
    for name, value in config.items():
        text = value if isinstance(value, str | int | float) else json.dumps(value)
        facts[name] = text if len(str(text)) < 1500 else f"{str(text)[:1500]} ..."
    _show(f"{path}: a checkpoint", facts)


def _is_published(path: Path) -> bool:
    # Only looked into where a name or a file hints at weights: torch takes seconds to import.
    if path.is_dir() and not (path / "config.json").is_file() and not any(path.glob("*.bin")):
        return False
    if path.is_file() and path.suffix.lower() not in _WEIGHTS:
        return False
    from sonoformer.encoders import is_published

    return is_published(path)


def _published(path: Path) -> None:
    from sonoformer.cli.published import facts_of
    from sonoformer.encoders import read_published
    from sonoformer.weights import read_foreign

    try:
        found = read_published(path)
    except UserError as error:
        if path.is_file():
            tensors = read_foreign(path).tensors
            shapes = {name: str(tuple(value.shape)) for name, value in tensors.items()}
            _show(f"{path}: {len(shapes)} tensors", dict(list(shapes.items())[:12]))
        say(str(error))
        return
    _show(f"{path}: {found.kind}", facts_of(found))


def _show(title: str, facts: dict[str, Any]) -> None:
    # Brackets in names are no markup, and what a file holds must not steer the terminal.
    heading = Text(brief(title))
    table = Table("", "", title=heading, title_justify="left", box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(Text(brief(name)), Text(brief(str(value), 2000)))
    console.print(table)


def _decibels(value: float) -> float:
    import math

    return 20 * math.log10(max(value, 1e-12))
