"""The curves as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sonoformer.files import atomic
from sonoformer.training.journal import Row

_COLOURS = {"train": "#8a8f98", "valid": "#c2410c", "": "#1d4ed8"}


def draw(rows: list[Row], path: Path) -> None:
    """One panel a metric, training and validation in the same one, over the steps, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(rows)
    if not panels:
        return
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    wide, high = 4.2 * across, 2.9 * down
    figure = Figure(figsize=(wide, high))
    FigureCanvasAgg(figure)
    # Fixed margins in inches: matplotlib's own layout engines draw everything twice.
    margins = {"left": 0.6 / wide, "right": 1 - 0.15 / wide, "wspace": 0.25}
    margins |= {"bottom": 0.45 / high, "top": 1 - 0.3 / high, "hspace": 0.4}
    axes = figure.subplots(down, across, squeeze=False, gridspec_kw=margins).ravel()
    for axis, (name, sides) in zip(axes, panels.items(), strict=False):
        _panel(axis, rows, name, sides)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _panels(rows: list[Row]) -> dict[str, list[str]]:
    columns = dict.fromkeys(n for row in rows for n in row if n not in ("step", "epoch"))
    panels: dict[str, list[str]] = {}
    for column in columns:
        side, _, name = column.rpartition("/")
        panels.setdefault(name, []).append(side)
    return panels


def _panel(axis: Any, rows: list[Row], name: str, sides: list[str]) -> None:
    for side in sides:
        column = f"{side}/{name}" if side else name
        points = [(row["step"], row[column]) for row in rows if column in row]
        marker = "o" if side == "valid" or len(points) < 3 else ""
        label = {"train": "training", "valid": "validation"}.get(side, name)
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, color=_COLOURS[side], marker=marker, ms=3, label=label)
    axis.set_title(name.replace("_", " "), fontsize=10)
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.ticklabel_format(axis="y", scilimits=(-3, 4))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if len(sides) > 1:
        axis.legend(fontsize=8, frameon=False)
