"""Text of files as it may stand in a sentence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sonoformer.errors import brief


def test_brief() -> None:
    assert brief("a\nb\x1b[0m é") == "a\\nb\\x1b[0m é"
    assert brief("x" * 300) == "x" * 200 + "..."
    assert brief("x" * 5, 5) == "x" * 5


@given(st.text(), st.integers(1, 50))
def test_brief_is_one_printable_line(text: str, most: int) -> None:
    found = brief(text, most)
    assert found.isprintable()
    assert len(found) <= 10 * most + 3
