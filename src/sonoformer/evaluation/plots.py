"""Pictures of results: one look, colours that colour-blind readers tell apart, no global state.

Every function gives a `Picture`, which draws itself as PNG (white ground, for files) or as SVG
whose colours are CSS variables, so that the same figure reads well on a light and a dark page.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import MissingExtraError
from sonoformer.evaluation.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, GROUND = "#1b2127", "#5d6873", "#d9dfe5", "#ffffff"
# Okabe and Ito (2008), without its yellow, which is too faint for lines.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#6b6b6b")
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", GROUND: "ground"} | {
    color: f"series-{i}" for i, color in enumerate(SERIES, 1)
}
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    # Class names are text, not formulas: a dollar sign must not start one.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sonoformer",
    "figure.constrained_layout.use": True,
}


class Picture:
    """A drawn figure."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure

    def png(self, dpi: int = 144) -> bytes:
        """The figure as PNG on white."""
        return self._save("png", dpi=dpi, facecolor=GROUND)

    def svg(self) -> str:
        """The figure as an `<svg>` element for a page; transparent, its colours CSS variables.

        Ids carry a prefix of the content's hash, so that figures on one page never share one.
        """
        text = self._save("svg", transparent=True, metadata={"Date": None}).decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        for color, name in _VARIABLES.items():
            text = text.replace(color, f"var(--{name}, {color})")
        prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
        return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)

    def _save(self, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        with _style():
            self._figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    floor: tuple[str, float] | None = None,
    log: bool = False,
    size: tuple[float, float] = (6.4, 3.2),
) -> Picture:
    """Lines over steps or epochs.

    Args:
        series: name -> `(x, y)`; a series of few points is drawn with its points.
        x_label, y_label, title: text.
        floor: name and height of a line to compare with, such as chance.
        log: logarithmic y axis.
        size: inches.
    """
    with _axes(size) as (figure, axes):
        for color, (name, (x, y)) in zip(_colors(), series.items(), strict=False):
            marker = "o" if len(x) <= 30 else None
            axes.plot(x, y, color=color, label=_short(name), marker=marker, markersize=3.5)
        if floor is not None:
            axes.axhline(floor[1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                floor[0],
                (1, floor[1]),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                color=MUTED,
                fontsize=9,
            )
        axes.grid(axis="y")
        axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
        axes.set_title(title)
        if len(series) > 1:
            axes.legend(loc="best")
        return Picture(figure)


def bars(
    names: Sequence[str],
    systems: Mapping[str, Sequence[Interval | None]],
    *,
    x_label: str,
    title: str = "",
    floor: tuple[str, float] | None = None,
) -> Picture:
    """Horizontal bars with their intervals, one group a name and one colour a system.

    Args:
        names: groups, top to bottom: classes, tasks or scores.
        systems: system -> a value for each name; None where there is none.
        x_label, title: text.
        floor: name and place of a vertical line to compare with, such as chance.
    """
    thickness = 0.76 / len(systems)
    height = 0.75 + max(1.0, (0.16 + 0.17 * len(systems)) * len(names)) + 0.3 * (len(systems) > 1)
    with _axes((6.4, height)) as (figure, axes):
        centres = np.arange(len(names), dtype=float)
        for i, (color, (system, values)) in enumerate(
            zip(_colors(), systems.items(), strict=False)
        ):
            places = centres + (i - (len(systems) - 1) / 2) * thickness
            widths = [0.0 if v is None else v.value for v in values]
            axes.barh(places, widths, thickness * 0.8, color=color, label=_short(system))
            for place, value in zip(places, values, strict=True):
                if value is not None and value.low is not None and value.high is not None:
                    axes.plot([value.low, value.high], [place] * 2, color=INK, linewidth=1.3)
        if floor is not None:
            axes.axvline(floor[1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label=floor[0])
        axes.set_yticks(centres, [_short(name) for name in names])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel(x_label)
        axes.set_title(title)
        if len(systems) > 1 or floor is not None:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
        return Picture(figure)


def confusion(matrix: NDArray[np.int64], classes: Sequence[str], title: str = "") -> Picture:
    """Counts of truth (rows) against prediction (columns), shaded by the share of the row.

    The diagonal is blue and errors are orange, so that the eye finds them.
    """
    from matplotlib.patches import Rectangle

    count = len(classes)
    side = 1.9 + min(7.0, max(1.8, 0.36 * count))
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    with _axes((side, side)) as (figure, axes):
        for row, column in np.argwhere(matrix > 0):
            part = float(share[row, column])
            color = SERIES[0] if row == column else SERIES[1]
            corner = (column - 0.5, row - 0.5)
            # A floor of opacity: a single error in a large class must still be seen.
            axes.add_patch(
                Rectangle(corner, 1, 1, facecolor=color, alpha=0.12 + 0.88 * part, linewidth=0)
            )
            if count <= 25:
                number = f"{matrix[row, column]}"
                ink = GROUND if part > 0.55 else INK
                axes.text(column, row, number, ha="center", va="center", color=ink, fontsize=8.5)
        labels = [_short(name, 18) for name in classes]
        size = 9 if count <= 25 else max(4.0, 225 / count)
        axes.set_xticks(range(count), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(count), labels, fontsize=size)
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        axes.set_title(title)
        for spine in axes.spines.values():
            spine.set(visible=True, color=LINE)
        return Picture(figure)


def spectrogram(wave: NDArray[np.float32], sample_rate: int, title: str = "") -> Picture:
    """A clip as a mel spectrogram with seconds and hertz.

    Args:
        wave: `(samples,)` in [-1, 1].
        sample_rate: Hz.
        title: text.
    """
    picture = mel_picture(wave, sample_rate)
    seconds = len(wave) / sample_rate
    with _axes((6.4, 2.6)) as (figure, axes):
        axes.imshow(
            picture[::-1],
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=0,
            vmax=255,
            extent=(0, seconds, 0, 1),
        )
        ticks = frequency_ticks(sample_rate)
        axes.set_yticks([place for _, place in ticks], [name for name, _ in ticks])
        axes.set(xlabel="seconds", ylabel="hertz")
        axes.set_title(title)
        return Picture(figure)


def spectrogram_png(wave: NDArray[np.float32], sample_rate: int) -> bytes:
    """The bare spectrogram as a small PNG of 256 colours, without axes, for a page's examples."""
    from PIL import Image

    try:
        from matplotlib import colormaps
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None
    image = Image.fromarray(mel_picture(wave, sample_rate), mode="P")
    palette = (colormaps["magma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def mel_picture(
    wave: NDArray[np.float32], sample_rate: int, rows: int = 96, columns: int = 560
) -> NDArray[np.uint8]:
    """Levels of a clip as `(rows, columns)` in 0..255, high frequency first, 75 dB deep.

    It is for the eye only and independent of any model's front end, so that two models' examples
    can be compared: 40-ms Hann windows, as many as the picture has columns, and mel bands up to
    the Nyquist frequency.
    """
    window = max(16, round(0.04 * sample_rate))
    padded = np.pad(np.asarray(wave, np.float32), window // 2)
    starts = np.linspace(0, max(0, len(padded) - window), columns).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[starts]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    edges = np.linspace(0, _mel(sample_rate / 2), rows + 1)
    band = np.clip(np.searchsorted(edges, _mel(np.fft.rfftfreq(window, 1 / sample_rate))), 1, rows)
    total = np.zeros((columns, rows))
    np.add.at(total.T, band - 1, power.T)
    width = np.bincount(band - 1, minlength=rows)
    # At low frequencies a band may hold no bin of the transform: it shows its neighbour.
    filled = np.maximum.accumulate(np.where(width > 0, np.arange(rows), -1))
    filled = np.where(filled < 0, np.flatnonzero(width)[0], filled)
    level = 10 * np.log10(np.maximum((total / np.maximum(width, 1))[:, filled], 1e-12))
    top = max(float(level.max()), -45.0)
    picture = np.clip((level - (top - 75)) / 75, 0, 1) * 255
    return picture.round().astype(np.uint8).T[::-1]


def frequency_ticks(sample_rate: int) -> list[tuple[str, float]]:
    """Names of round frequencies and their height in `mel_picture`, 0 (bottom) to 1 (top)."""
    top = sample_rate / 2
    ticks: list[tuple[str, float]] = []
    for hertz in (125, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000):
        place = float(_mel(hertz) / _mel(top))
        # Readable: not at the edges, not on each other.
        if 0.08 < place < 0.95 and (not ticks or place - ticks[-1][1] > 0.12):
            ticks.append((f"{hertz // 1000}k" if hertz >= 1000 else str(hertz), place))
    return ticks


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _colors() -> Iterator[str]:
    while True:
        yield from SERIES


def _short(text: str, length: int = 28) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None
    with matplotlib.rc_context(_STYLE):
        yield


@contextmanager
def _axes(size: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """One axes on a figure that belongs to no window system and no global list."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size)
        yield figure, figure.subplots()
