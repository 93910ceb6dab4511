"""The table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sonoformer.suite.rows import Row, markdown, store, stored

ROW = Row(
    "drum-hits", "fixed", "mine", "pretrained", "linear", "balanced_accuracy",
    value=0.5, low=0.4, high=0.6, chance=0.1, heard="transductive", parts={"a/b": 0.5}, key="k",
)  # fmt: skip


def test_a_row_is_found_again_under_its_key_only(tmp_path: Path) -> None:
    store(tmp_path, ROW)
    assert stored(tmp_path, ROW) == ROW
    assert stored(tmp_path, replace(ROW, value=None)) == ROW
    assert stored(tmp_path, replace(ROW, key="other")) is None
    assert stored(tmp_path, replace(ROW, encoder="other")) is None
    store(tmp_path, replace(ROW, value=None, problem="failed"))
    assert stored(tmp_path, ROW) is None


def test_markdown_puts_floors_first_and_marks_what_was_heard() -> None:
    floor = replace(ROW, encoder="", probe="svm", heard="no", value=0.3, low=0.2, high=0.4)
    failed = replace(ROW, probe="knn", value=None, low=None, high=None, problem="it broke")
    unknown = replace(ROW, encoder="x", heard="unknown")
    text = markdown([ROW, floor, failed, unknown], ["esc10: not here"], "Title")
    lines = text.splitlines()
    assert lines[2] == "| task | score | chance | svm | mine, linear | mine, knn | x, linear |"
    assert lines[4] == (
        "| drum-hits | balanced accuracy | 0.100 | 0.300 [0.200, 0.400] | "
        "0.500 [0.400, 0.600] (t) | failed | 0.500 [0.400, 0.600] (?) |"
    )
    assert "- drum-hits, mine, knn: it broke" in lines
    assert "- left out: esc10: not here" in lines
