"""The user's mistake as one sentence.

Everything that a user can get wrong (a file, an option, a table) is raised as a `UserError`. The
command line prints its sentence and exits with code 2; no traceback is shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """One clear sentence that names the file or option, says what is wrong and what to do.

    Attributes:
        exit_code: what the command exits with.
    """

    exit_code = 2


class AudioError(UserError):
    """A recording that cannot be used; `path` names it and `reason` says why.

    Long runs catch this one, skip the file, count it and list it in the end report.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[AudioError], tuple[Path, str]]:
        # Worker processes send exceptions by pickle, which by default replays `args`.
        return (type(self), (self.path, self.reason))


class MissingExtraError(UserError):
    """A feature whose optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'sonoformer[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return (type(self), (self.package, self.extra))


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def brief(text: str, most: int = 200) -> str:
    """Text of somebody else, such as a value or a name in a file, as it may stand in a sentence.

    Line breaks and control characters are escaped, what is longer than `most` is cut.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:most])
    return shown if len(text) <= most else f"{shown}..."
