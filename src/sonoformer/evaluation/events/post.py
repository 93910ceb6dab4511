"""How scores of frames become events: the options, class by class, saved beside a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sonoformer.errors import UserError
from sonoformer.files import read_json, write_json
from sonoformer.settings import build, plain


@dataclass(frozen=True)
class ClassPost:
    """How the frame scores of one class become events. Times are in seconds.

    In this order: median filter, hysteresis, ends between frames, gaps, durations.
    """

    median: float = 0.0
    """Length of the median filter; rounded to an odd number of frames, 0 for none."""
    high: float = 0.5
    """An event begins where the filtered score reaches this."""
    low: float | None = None
    """It ends where the score falls below this; the same as `high` if absent."""
    gap: float = 0.0
    """Events less than this apart become one."""
    shortest: float = 0.0
    """Events that last less are dropped, after gaps are closed."""
    longest: float | None = None
    """Events that last longer are dropped: rain, an engine."""
    score: Literal["max", "mean"] = "max"
    """The event's score: highest or mean filtered score of its frames (closed gaps left out)."""
    interpolate: bool = True
    """Place ends where the line between two frames' scores crosses the threshold; else at the
    border between the frames."""

    def __post_init__(self) -> None:
        low = self.high if self.low is None else self.low
        for name, value in (("high", self.high), ("low", low)):
            if not 0 < value <= 1:
                raise UserError(f"{name}: a threshold must be above 0 and at most 1; got {value}.")
        if low > self.high:
            raise UserError(f"low: must not be above high ({self.high}); got {low}.")
        for name in ("median", "gap", "shortest"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name}: must be 0 seconds or more; got {getattr(self, name)}.")
        if self.longest is not None and not self.longest > self.shortest:
            raise UserError(
                f"longest: must be above shortest ({self.shortest}); got {self.longest}."
            )
        if self.score not in ("max", "mean"):
            raise UserError(f"score: must be max or mean; got {self.score!r}.")

    @property
    def closing(self) -> float:
        """The threshold below which an event ends."""
        return self.high if self.low is None else self.low

    def reach(self, step: float) -> int:
        """Frames on either side that the median filter looks at; `step` seconds a frame."""
        return round((self.median / step - 1) / 2) if self.median > step else 0


@dataclass(frozen=True)
class PostConfig:
    """Post-processing of a model: the same for all classes but those named."""

    default: ClassPost = ClassPost()
    """of every class that `classes` does not name"""
    classes: dict[str, ClassPost] = field(default_factory=dict)
    """by class name"""

    def of(self, name: str) -> ClassPost:
        """The options of a class."""
        return self.classes.get(name, self.default)

    def with_classes(self, classes: Mapping[str, ClassPost]) -> PostConfig:
        """With other options for some classes."""
        return PostConfig(self.default, {**self.classes, **classes})

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, plain(self))

    @classmethod
    def load(cls, path: str | Path) -> PostConfig:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, is no JSON, or holds an option that there is not.
        """
        return build(cls, read_json(path), str(path))
