"""Put a pretraining run on the shelf of encoders that come with the package, with its model card.

    python scripts/ship.py runs/ssast ssast-tiny-patch --suite runs/suite --notes "..."

The weights are stored in half precision. The card says what was heard, package by package with
licence and hours, by which options, for how long and at what cost, and what the encoder is worth on
the task suite: the tables of every --suite folder, as `sonoformer suite` wrote them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import yaml
from PIL import Image

from sonoformer.data.catalogue.cache import cache_folder
from sonoformer.data.catalogue.debian import PACKAGES
from sonoformer.encoders import load_encoder, shipped
from sonoformer.export.half import to_half
from sonoformer.settings import read_yaml

SHOWN = ("objective", "size", "tokens", "crop", "weights", "augment", "statistics")
CARD = """# {name}

A spectrogram transformer ({parameters:.1f} M parameters, 16 kHz, {tokens} tokens) that listened to
unlabelled sound by the objective `{objective}`: {steps:,} steps of {clips} clips of at most
{crop:g} s, drawn from {hours:.1f} h. Weights in half precision; they compute in fp32.

```python
import sonoformer as sf

encoder = sf.load_encoder("{name}")  # there without a network
```

{notes}

## Data and licences

All of it is free: recordings of packages of Debian 12, under the licences of their packages. The
groups on which the task suite tests are left out. Packages are drawn by the square root of their
hours. `sonoformer data fetch shipped-pool` builds the pool.

{data}

The weights are given under the licence of Sonoformer, Apache-2.0.

## Training

![curves](curves.png)

{cost:.1f} h on one core of a machine of two cores. On held-out recordings at the end: {validation}.

```yaml
{options}
```

## What it is worth

Fixed protocol of the task suite, on groups that were never heard; 95 % intervals; `svm` is the
floor, a classifier of log-mel statistics that has learned nothing from other sound.
{results}
"""


def data_table(pool: Path) -> list[str]:
    """A package a row: kind, licence, recordings, hours, and how often a clip comes from it."""
    recordings: dict[str, int] = defaultdict(int)
    hours: dict[str, float] = defaultdict(float)
    drawn: dict[str, float] = defaultdict(float)
    kinds: dict[str, set[str]] = defaultdict(set)
    with pool.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["package"]
            recordings[name] += 1
            hours[name] += float(row["duration"]) / 3600
            drawn[name] += float(row["weight"])
            kinds[name].add(row["kind"])
    lines = ["| Debian package | kind | licence | recordings | hours | share of clips |"]
    lines.append("|---|---|---|---|---|---|")
    whole = sum(drawn.values())
    for name in sorted(drawn, key=lambda n: -drawn[n]):
        kind = ", ".join(sorted(kinds[name]))
        lines.append(
            f"| {name} {PACKAGES[name].version} | {kind} | {PACKAGES[name].licence} | "
            f"{recordings[name]:,} | {hours[name]:.2f} | {100 * drawn[name] / whole:.1f} % |"
        )
    total = f"{sum(recordings.values()):,} | {sum(hours.values()):.1f}"
    return [*lines, f"| all | | | {total} | |"]


def suite_tables(folders: list[Path]) -> str:
    """The suite's tables without their headings."""
    lines: list[str] = []
    for folder in folders:
        table = (folder / "table.md").read_text(encoding="utf-8").splitlines()
        lines += ["", *(line for line in table if line.startswith("|"))]
    return "\n".join(lines)


def card(run: Path, name: str, pool: Path, suites: list[Path], notes: str) -> str:
    """The model card."""
    config = read_yaml(run / "config.yaml")
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    train, own = config["train"], config["objective"].replace("-", "_")
    options = {key: config[key] for key in (*SHOWN, own)}
    options["train"] = {
        key: train[key] for key in ("steps", "batch_size", "ema", "optimiser", "schedule")
    }
    return CARD.format(
        name=name,
        parameters=sum(p.numel() for p in load_encoder(run).parameters()) / 1e6,
        tokens=config["tokens"],
        objective=config["objective"],
        steps=figures["steps"],
        clips=train["batch_size"],
        crop=config["crop"],
        hours=figures["hours"],
        notes=notes,
        data="\n".join(data_table(pool)),
        cost=figures["seconds"] / 3600,
        validation=", ".join(f"{k} {v:.4g}" for k, v in figures["validation"].items()),
        options=yaml.safe_dump(options, sort_keys=False).rstrip(),
        results=suite_tables(suites),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="run of `sonoformer pretrain`")
    parser.add_argument("name", help="name on the shelf")
    parser.add_argument("--suite", type=Path, nargs="*", default=[], help="runs of the task suite")
    parser.add_argument("--notes", default="", help="what a user must know before anything else")
    parser.add_argument("--pool", type=Path, default=cache_folder() / "shipped-pool.csv")
    parser.add_argument("--out", type=Path, default=Path(shipped.__file__).parent / "shipped")
    options = parser.parse_args()
    text = card(options.run, options.name, options.pool, options.suite, options.notes)
    folder, difference = to_half(options.run, options.out / options.name, text)
    # A few colours are enough for curves, and a third of the bytes.
    Image.open(options.run / "curves.png").convert("P", palette=Image.Palette.ADAPTIVE).save(
        folder / "curves.png", optimize=True
    )
    print(f"{folder}: tokens within {difference:.1e} of the run's")


if __name__ == "__main__":
    main()
