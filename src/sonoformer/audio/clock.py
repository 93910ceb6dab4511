"""When a recording began: recorders write it into the file's metadata or its name."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

# 20210612_193000, 20210612T193000Z, 2021-06-12_19-30-00
_NAME = re.compile(
    r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})[_T-](\d{2})[-:]?(\d{2})[-:]?(\d{2})(Z)?(?!\d)"
)
# AudioMoth: "Recorded at 19:30:00 12/06/2021 (UTC+2) by AudioMoth ..."
_MOTH = re.compile(
    r"Recorded at (\d{2}):(\d{2}):(\d{2})(?:\.\d+)? (\d{2})/(\d{2})/(\d{4}) \((UTC[^)]*)\)"
)
# GUANO: "Timestamp: 2021-06-12T19:30:00+02:00"
_GUANO = re.compile(r"^\s*Timestamp:\s*(\S+)", re.MULTILINE)


def recorded_at(path: str | Path, comment: str = "") -> datetime | None:
    """Start of a recording from its comment field, else a GUANO block, else its name.

    The clock is the recorder's own: a UTC offset that the metadata gives is dropped, so that times
    of one site stay comparable; None when nothing says when, or what it says is no date.

    Args:
        path: the file; only its last kilobytes are read, and only of WAV files.
        comment: the comment field of the header.
    """
    path = Path(path)
    moth = _MOTH.search(comment)
    if moth:
        hour, minute, second, day, month, year = (int(part) for part in moth.groups()[:6])
        return _date(year, month, day, hour, minute, second)
    if path.suffix.lower() == ".wav":
        stamp = _guano(path)
        if stamp is not None:
            return stamp
    for match in reversed(list(_NAME.finditer(path.stem))):
        when = _date(*(int(part) for part in match.groups()[:6]))
        if when is not None:
            return when
    return None


def clock(start: datetime | None, seconds: float) -> datetime | None:
    """The time of day `seconds` after the recording's start, to the millisecond."""
    if start is None:
        return None
    return start + timedelta(milliseconds=round(seconds * 1000))


def _guano(path: Path) -> datetime | None:
    """The GUANO block stands in a `guan` chunk, which recorders write at the end or the start."""
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, path.stat().st_size - 4096))
        tail = file.read()
    for part in (head, tail):
        place = part.find(b"guan")
        if place >= 0:
            found = _GUANO.search(part[place + 8 :].decode("utf-8", "replace"))
            if found:
                try:
                    return datetime.fromisoformat(found.group(1)).replace(tzinfo=None)
                except ValueError:
                    return None
    return None


def _date(*parts: int) -> datetime | None:
    try:
        when = datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        return None
    return when.replace(tzinfo=None) if 1980 <= when.year <= 2100 else None
