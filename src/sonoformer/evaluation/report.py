"""One self-contained HTML file: results that can be sent, archived, printed and listened to.

A report is a list of sections, a section a list of parts:

>>> report = Report("Frogs", "fine-tuned from runs/pretrain, tested on 5 held-out sites")
>>> report.add(Section("Result", [Figures.of(card), Plot(confusion(card.confusion, classes))]))
>>> report.write("report.html")

Nothing is loaded from elsewhere: pictures are SVG or PNG, sounds are WAV, all inside the file.
"""

from __future__ import annotations

import base64
import io
import wave as wave_file
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sonoformer import __version__
from sonoformer.errors import MissingExtraError
from sonoformer.evaluation.plots import Picture, frequency_ticks, spectrogram_png
from sonoformer.evaluation.scorecard import TITLES, Scorecard
from sonoformer.evaluation.statistics import Interval
from sonoformer.files import write_text

MEGABYTE = 1_000_000
_HEADINGS = {"f1": "F1", "average_precision": "AP", "auc": "AUC"}


@dataclass(frozen=True)
class Figure:
    """One number in large type, with its interval drawn on a scale from 0 to 1.

    Attributes:
        label: what it is.
        value: the value and its interval.
        note: a few words below, e.g. a floor to compare with.
        mark: a value to mark on the scale, such as chance.
    """

    label: str
    value: Interval
    note: str = ""
    mark: float | None = None


@dataclass(frozen=True)
class Figures:
    """The headline: a row of figures."""

    kind: ClassVar[str] = "figures"
    items: Sequence[Figure]

    @classmethod
    def of(cls, card: Scorecard, names: Sequence[str] | None = None) -> Figures:
        """The scores of a scorecard, all or the named ones."""
        chosen = [name for name in names or card.figures if name in card.figures]
        return cls([Figure(TITLES[n], card.figures[n], card.figures[n].over) for n in chosen])


@dataclass(frozen=True)
class Plot:
    """A drawn figure with a caption."""

    kind: ClassVar[str] = "plot"
    picture: Picture
    caption: str = ""

    @property
    def svg(self) -> str:
        """The figure's markup."""
        return self.picture.svg()


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers; a click on a heading sorts.

    Attributes:
        columns: headings.
        rows: cells; floats are shown with three digits, None as a dash.
        shares: headings of columns in [0, 1] that get a bar behind the number.
        caption: a sentence below.
        fold: folded away until opened, for long tables.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shares: Sequence[str] = ()
    caption: str = ""
    fold: str = ""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], **options: Any) -> Table:
        """From mappings with equal keys; the keys become headings."""
        keys = list(rows[0]) if rows else []
        options["shares"] = [_heading(key) for key in options.get("shares", ())]
        return cls([_heading(k) for k in keys], [[r[k] for k in keys] for r in rows], **options)


@dataclass(frozen=True)
class Verdict:
    """What one system said about a clip; no score where it said nothing, and neither right nor
    wrong where nobody knows."""

    label: str
    score: float | None
    right: bool | None
    system: str = ""


@dataclass(frozen=True)
class Mark:
    """A stretch of a clip that is drawn over its spectrogram, as a bar with its label.

    Attributes:
        start, end: seconds of the clip; what lies outside is cut.
        label: text.
        true: it is really there, and is drawn above; else it was found, and is drawn below.
        wrong: it is what the example is about, and gets the colour of errors.
    """

    start: float
    end: float
    label: str
    true: bool
    wrong: bool = False


@dataclass(frozen=True)
class Example:
    """A clip to see and hear.

    Attributes:
        name: of the file, with times.
        truth: its true label or labels; None where not known.
        verdicts: what each system said.
        wave: `(samples,)` in [-1, 1].
        sample_rate: Hz.
        marks: stretches to draw over it.
    """

    name: str
    truth: str | None
    verdicts: Sequence[Verdict]
    wave: NDArray[np.float32]
    sample_rate: int
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Examples:
    """Clips as spectrograms with players."""

    kind: ClassVar[str] = "examples"
    items: Sequence[Example]
    caption: str = ""
    seconds: float = 10.0


@dataclass(frozen=True)
class Prose:
    """Paragraphs of plain text, separated by empty lines; `tone` is "plain", "good" or "warn"."""

    kind: ClassVar[str] = "prose"
    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Code:
    """Text as it is (a configuration, a command), folded away below its title if it has one."""

    kind: ClassVar[str] = "code"
    text: str
    title: str = ""


@dataclass(frozen=True)
class Columns:
    """Side by side, a heading and parts for each; `systems` gives each column its colour."""

    kind: ClassVar[str] = "columns"
    items: Sequence[tuple[str, Sequence[Part]]]
    systems: bool = False


Part = Figures | Plot | Table | Examples | Prose | Code | Columns


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    parts: Sequence[Part]
    lead: str = ""


@dataclass
class Report:
    """A titled list of sections.

    Attributes:
        title: heading of the page.
        subtitle: what was trained on what, and tested on what, in a sentence.
        sections: in reading order.
        max_bytes: examples whose sound would make the file larger go without it, and say so.
    """

    title: str
    subtitle: str = ""
    sections: list[Section] = field(default_factory=list)
    max_bytes: int = 8 * MEGABYTE

    def add(self, section: Section) -> Report:
        """Append a section; gives the report, so that calls can be chained."""
        self.sections.append(section)
        return self

    def html(self) -> str:
        """The page."""
        try:
            import jinja2
            from markupsafe import Markup
        except ImportError:
            raise MissingExtraError("jinja2", "train") from None
        here = Path(__file__).parent
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(here),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.filters |= {"cell": _cell, "percent": _percent}
        return environment.get_template("report.html.j2").render(
            report=self,
            # Our own files and drawings are markup; all else on the page is escaped.
            style=Markup((here / "report.css").read_text(encoding="utf-8")),
            script=Markup((here / "report.js").read_text(encoding="utf-8")),
            markup=Markup,
            media=_Media(self.max_bytes),
            written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            version=__version__,
        )

    def write(self, path: str | Path) -> Path:
        """Write the page, atomically."""
        write_text(path, self.html())
        return Path(path)


class _Media:
    """Pictures and sounds of examples as data URIs, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        # A quarter is for text, figures and tables.
        self._left = budget * 3 // 4

    def of(self, example: Example, seconds: float) -> dict[str, Any]:
        """Spectrogram, sound (None when the budget is spent), shown and whole length."""
        shown = example.wave[: round(seconds * example.sample_rate)]
        image = self._take("image/png", spectrogram_png(shown, example.sample_rate))
        sound = self._take("audio/wav", _wav(shown, example.sample_rate)) if image else None
        return {
            "image": image,
            "sound": sound,
            "seconds": len(shown) / example.sample_rate,
            "whole": len(example.wave) / example.sample_rate,
            "ticks": frequency_ticks(example.sample_rate),
            "marks": _placed(example.marks, len(shown) / example.sample_rate),
        }

    def _take(self, kind: str, data: bytes) -> str | None:
        uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        if len(uri) > self._left:
            return None
        self._left -= len(uri)
        return uri


def _placed(marks: Sequence[Mark], seconds: float) -> list[tuple[Mark, float, float, int]]:
    """The marks inside a clip: their places on its width, 0 to 1, and the lane of each.

    Of true and of found marks each, those that overlap lie in lanes one beside the other.
    """
    placed = []
    for true in (True, False):
        free: list[float] = []  # where each lane ends
        for mark in sorted(marks, key=lambda mark: mark.start):
            if mark.true is not true or mark.start >= seconds or mark.end <= 0:
                continue
            lane = next((i for i, end in enumerate(free) if end <= mark.start), len(free))
            free[lane : lane + 1] = [mark.end]
            start, end = max(0.0, mark.start), min(mark.end, seconds)
            placed.append((mark, start / seconds, end / seconds, lane))
    return placed


def _wav(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """16-bit WAV: larger than a compressed file, and played by every browser."""
    buffer = io.BytesIO()
    with wave_file.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _heading(key: str) -> str:
    return (TITLES | _HEADINGS).get(key, key.replace("_", " "))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _percent(value: float) -> str:
    """A place on a scale from 0 to 1 as CSS."""
    return f"{100 * min(1.0, max(0.0, value)):.2f}%"
