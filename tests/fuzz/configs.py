"""Mutations of the JSON files of a folder: settings, and the index of parts."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 10**9, 2**31, 2**63, 10**400, 0.5, -0.5, 1e-300, 1e308,
    -1e308, float("nan"), float("inf"), float("-inf"), "", "1", "nan", "text", "a\nb", "[/red]", [],
    {}, [1], [[1]], [1, 2], [0, 0], [-1, -1], [2**20, 2**20], {"a": 1}, ["a", "a", "a"], "../../x",
    "é" * 300, list(range(2000)), 64, 128, 256, 1024, 16000, "mean", "cls", "bands", "bands_std",
    "reference", "weighted", "linear", "audio-spectrogram-transformer", "wav2vec2", "mlp",
)  # fmt: skip
_TEXTS = (
    "", "null", "[]", "{", "{}", "NaN", '"text"', "[" * 100_000, '{"a":' * 50_000, "1" * 6000,
    '{"a": 1e999}', "\ufeff{}", "{'a': 1}", '{"model_type": "wav2vec2"}', '{"format": 1}',
    '{"model_type": "audio-spectrogram-transformer"}', '{"model_type": {}}', '{"format": 2}',
)  # fmt: skip


def settings(case: Case, rng: random.Random) -> None:
    """A value of a JSON file changed, dropped or added, at any depth."""
    if not case.configs:
        return
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        place = case.configs[rng.choice(list(case.configs))]
        while True:
            if not isinstance(place, dict | list) or not place:
                break
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            match rng.randrange(6):
                case 0:
                    del place[key]
                case 1 if isinstance(place, dict):
                    place[rng.choice(["unknown", "a\nb", "dim", "", f"{key}s"])] = copy.deepcopy(
                        rng.choice(_ODD)
                    )
                case 2 if type(place[key]) is int:
                    place[key] = place[key] * rng.choice([-1, 2, 3, 1000]) + rng.choice([0, 1])
                case _:
                    place[key] = copy.deepcopy(rng.choice(_ODD))
            break


def texts(folder: Path, rng: random.Random) -> None:
    """A JSON file that is none, or is damaged, or is gone."""
    files = sorted(folder.glob("*.json"))
    if not files:
        return
    path = rng.choice(files)
    match rng.randrange(4):
        case 0:
            path.unlink()
        case 1:
            path.write_text(rng.choice(_TEXTS), encoding="utf-8")
        case 2:
            text = path.read_bytes()
            path.write_bytes(text[: rng.randrange(len(text) + 1)])
        case _:
            text = bytearray(path.read_bytes())
            for _ in range(rng.randrange(1, 6) if text else 0):
                text[rng.randrange(len(text))] = rng.choice(b'0123456789-.eE"[]{}:,\\ux\xff\x00')
            path.write_bytes(bytes(text))


def index(folder: Path, rng: random.Random) -> None:
    """An index of parts that names others."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        places = values["weight_map"]
        name = rng.choice(sorted(places.keys()))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    others = (
        "../outside.safetensors", "/etc/passwd", "..", ".", "", "missing.safetensors",
        "config.json", None, 5, ["a"], {"a": 1}, "a\nb", "a\x00b", "model-1-of-2.safetensors",
        "x" * 300,
    )  # fmt: skip
    match rng.randrange(4):
        case 0:
            places[rng.choice(["unknown", "a\nb"])] = "model-1-of-2.safetensors"
        case 1:
            values["weight_map"] = rng.choice([[], {}, None, "text", 5])
        case 2:
            del places[name]
        case _:
            places[name] = rng.choice(others)
    path.write_text(json.dumps(values))
