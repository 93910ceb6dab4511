"""When a recording began, from what its recorder wrote into the file or its name.

Times are wall-clock times as written, because that is what people label and plan by. Where the
zone is written too it is returned with the time (an aware datetime).
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

# AudioMoth: "Recorded at 19:30:00 12/06/2021 (UTC+2) by AudioMoth 24F3190361CA5337 ..."
_COMMENT = re.compile(
    r"Recorded at (?P<H>\d{1,2}):(?P<M>\d\d):(?P<S>\d\d)(?P<f>\.\d{1,6})? "
    r"(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<Y>\d{4})(?: \((?P<zone>UTC[^)]*)\))?"
)
# 20210612_193000, 20210612T193000Z, 20210612-193000+0200, 2021-06-12_19-30-00
_NAME = re.compile(
    r"(?<!\d)(?P<Y>\d{4})(?P<dash>-?)(?P<m>\d\d)(?P=dash)(?P<d>\d\d)[_T -]"
    r"(?P<H>\d\d)(?P<colon>[-:.]?)(?P<M>\d\d)(?P=colon)(?P<S>\d\d)(?!\d)(?P<zone>Z|[+-]\d{4})?"
)
_GUANO = re.compile(r"^\s*Timestamp\s*:\s*(\S+(?: \d\S*)?)", re.MULTILINE)
_ZONE = re.compile(r"(?:UTC)?(?:(?P<sign>[+-])(?P<hours>\d{1,2}):?(?P<minutes>\d\d)?)?$")


def recorded_at(
    path: str | Path, comment: str = "", *, guano: str = "", origination: str = ""
) -> datetime | None:
    """When the recording began, by its GUANO text, comment, origination or name; None if unknown.

    Args:
        path: its name may hold `YYYYMMDD_HHMMSS` or `YYYYMMDDTHHMMSS`, with `Z` or `+hhmm`;
            folders in it do not count.
        comment: the comment tag of any format, as AudioMoth writes it.
        guano: text of a GUANO chunk (`Timestamp: 2021-06-12T19:30:00+02:00`).
        origination: date and time of a broadcast extension, `2021-06-12 19:30:00`.
    """
    if (match := _GUANO.search(guano)) and (found := _iso(match[1])):
        return found
    if (match := _COMMENT.search(comment)) and (found := _from_parts(match)):
        return found
    if origination and (found := _iso(origination)):
        return found
    # The last time in a name is the recorder's; what stands before it was added by people.
    for match in reversed(list(_NAME.finditer(os.path.basename(os.fspath(path))))):  # noqa: PTH119
        if found := _from_parts(match):
            return found
    return None


def clock(began: datetime | None, seconds: float) -> datetime | None:
    """The time `seconds` into a recording that began at `began`; None if that is unknown."""
    return None if began is None else began + timedelta(seconds=seconds)


def _from_parts(match: re.Match[str]) -> datetime | None:
    part = match.groupdict()
    micro = round(float(part.get("f") or 0) * 1e6)
    try:
        found = datetime(
            int(part["Y"]), int(part["m"]), int(part["d"]), int(part["H"]), int(part["M"]),
            int(part["S"]), min(micro, 999_999),
        )  # fmt: skip
    except ValueError:  # month 13 and the like: digits that are no time
        return None
    return _plausible(found.replace(tzinfo=_zone(part["zone"])))


def _iso(text: str) -> datetime | None:
    if len(text.strip()) < len("20210612T193000"):  # a day alone is not when sound began
        return None
    try:
        return _plausible(datetime.fromisoformat(text.strip()))
    except ValueError:
        return None


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    match = _ZONE.match(text.replace(" ", "").replace("Z", "UTC"))
    if match is None:
        return None
    offset = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0))
    try:
        return timezone(-offset if match["sign"] == "-" else offset)
    except ValueError:  # a day or more
        return None


def _plausible(found: datetime) -> datetime | None:
    """A clock that was never set starts at 0000 or 1904 or 1970; a long number is no date."""
    return found if 1971 <= found.year < 2200 else None
