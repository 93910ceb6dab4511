from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoformer.audio.clock import clock, recorded_at

EVENING = datetime(2021, 6, 12, 19, 30)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("20210612_193000.WAV", EVENING),
        ("20210612_193000T.WAV", EVENING),  # AudioMoth's mark of a triggered recording
        ("20210612T193000.flac", EVENING),
        ("20210612T193000Z.flac", EVENING.replace(tzinfo=UTC)),
        ("20210612T193000+0200.wav", EVENING.replace(tzinfo=timezone(timedelta(hours=2)))),
        ("20210612-193000.wav", EVENING),
        ("2021-06-12_19-30-00.wav", EVENING),
        ("2021-06-12T19:30:00.wav", EVENING),
        ("2021-06-12 19.30.00.m4a", EVENING),
        ("SM4-03_0+1_20210612_193000_000.wav", EVENING),
        ("/data/20200101_000000/SITE7_20210612_193000.wav", EVENING),
        ("20200101_000000_as_20210612_193000.wav", EVENING),
        ("20210612_193000_20219999_999999.wav", EVENING),
    ],
)
def test_names(name: str, want: datetime) -> None:
    assert recorded_at(name) == want
    assert recorded_at(name).tzinfo == want.tzinfo  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        "frog.wav",
        "20210612.wav",
        "20211312_193000.wav",
        "20210631_193000.wav",
        "20210612_246000.wav",
        "120210612_193000.wav",
        "20210612_1930001.wav",
        "00000612_193000.wav",
        "19700101_000000.wav",
        "12345678_123456.wav",
        "20210612_193000/frog.wav",
    ],
)
def test_names_that_are_no_time(name: str) -> None:
    assert recorded_at(name) is None


@pytest.mark.parametrize(
    ("comment", "want"),
    [
        ("Recorded at 19:30:00 12/06/2021 (UTC) by AudioMoth 24F3 at gain setting 2", UTC),
        ("Recorded at 19:30:00 12/06/2021 (UTC+2) by", timezone(timedelta(hours=2))),
        ("Recorded at 19:30:00 12/06/2021 (UTC-3:30) by", timezone(-timedelta(hours=3.5))),
        ("Recorded at 19:30:00 12/06/2021 (UTC+10) by", timezone(timedelta(hours=10))),
        ("Recorded at 19:30:00 12/06/2021 by hand", None),
        ("Recorded at 19:30:00 12/06/2021 (UTC+99) by", None),
        ("Recorded at 19:30:00 12/06/2021 (UTCx) by", None),
    ],
)
def test_comments(comment: str, want: timezone | None) -> None:
    found = recorded_at("a.wav", comment)
    assert found == EVENING.replace(tzinfo=want)
    assert found.utcoffset() == (want.utcoffset(None) if want else None)


def test_fractions_of_a_second() -> None:
    comment = "Recorded at 19:30:00.125 12/06/2021 (UTC)"
    assert recorded_at("a.wav", comment) == datetime(2021, 6, 12, 19, 30, 0, 125000, UTC)


@pytest.mark.parametrize(
    "stamp", ["2021-06-12T19:30:00", "2021-06-12 19:30:00", "20210612T193000", "2021-06-12T19:30Z"]
)
def test_guano(stamp: str) -> None:
    found = recorded_at("a.wav", guano=f"GUANO|Version: 1.0\r\nTimestamp: {stamp}\r\nMake: X")
    assert found is not None
    assert found.replace(tzinfo=None) == EVENING


@settings(max_examples=30, deadline=None)
@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_is_a_fault(name: str, comment: str, guano: str, origination: str) -> None:
    found = recorded_at(name, comment, guano=guano, origination=origination)
    assert found is None or found.year > 1970


def test_clock() -> None:
    assert clock(EVENING, 3661.5) == datetime(2021, 6, 12, 20, 31, 1, 500000)
    assert clock(EVENING, 5 * 3600).day == 13  # type: ignore[union-attr]
    assert clock(None, 3.0) is None
