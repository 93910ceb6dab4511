"""Which results are transductive."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonoformer.suite.heard import heard, record_of
from sonoformer.suite.tasks import SUITE

POOL = {"sets": ["debian-pool"], "held_out": True}


@pytest.mark.parametrize(
    ("record", "task", "protocol", "expected"),
    [
        (None, "drum-hits", "fixed", "unknown"),
        ({"held_out": True}, "drum-hits", "fixed", "unknown"),
        (POOL, "drum-hits", "fixed", "no"),
        (POOL, "drum-hits", "folds", "transductive"),
        ({"sets": ["debian-pool"]}, "drum-hits", "fixed", "transductive"),
        (POOL, "esc10", "folds", "no"),
        ({"sets": ["esc10"], "held_out": True}, "esc10", "fixed", "transductive"),
        ({"sets": ["gcin-voice"]}, "mandarin-tones", "folds", "transductive"),
        ({"sets": ["gcin-voice"]}, "drum-hits", "folds", "no"),
        ({"sets": []}, "drum-hits", "folds", "no"),
    ],
)
def test_heard(record: dict | None, task: str, protocol: str, expected: str) -> None:
    assert heard(record, SUITE[task], protocol) == expected  # type: ignore[arg-type]


def test_the_record_is_read_from_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    assert record_of(checkpoint) == POOL
    assert record_of(tmp_path) is None
