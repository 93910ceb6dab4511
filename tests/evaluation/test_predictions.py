"""Predictions as a table: nothing is lost, and people can read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import Answers
from sonoformer.evaluation.predictions import load_predictions, save_predictions, to_table


def answers(single: bool, grouped: bool) -> Answers:
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(0, 3, 8)] > 0 if single else rng.random((8, 3)) < 0.5
    targets[7] = False
    return Answers(
        ("a b", "c;d", "ü"),
        rng.random((8, 3)).astype(np.float32),
        targets,
        single,
        known=rng.random((8, 3)) < 0.7,
        clips=[f"{i}.wav" for i in range(8)],
        groups=[f"g{i // 2}" for i in range(8)] if grouped else None,
    )


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_nothing_is_lost(tmp_path: Path, single: bool, grouped: bool) -> None:
    before = answers(single, grouped)
    save_predictions(tmp_path / "p.parquet", before, {"fold": ["1"] * 8})
    after = load_predictions(tmp_path / "p.parquet", single=single)
    for name in ("scores", "targets", "known", "thresholds"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert tuple(after.classes) == tuple(before.classes)
    assert tuple(after.clips) == tuple(before.clips)
    assert after.groups == (None if before.groups is None else tuple(before.groups))


def test_what_people_read() -> None:
    scores = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]], np.float32)
    targets = np.array([[1, 0], [1, 0], [0, 0]], bool)
    table = to_table(Answers(("frog", "owl"), scores, targets, True, clips=("x", "y", "z")))
    assert table["predicted"].to_list() == [["frog"], ["owl"], ["frog"]]
    assert table["right"].to_list() == [True, False, None]
    assert table["score owl"].to_list() == pytest.approx([0.3, 0.6, 0.5])


def test_other_tables_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="no table of predictions"):
        load_predictions(tmp_path / "other.parquet", single=True)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        load_predictions(tmp_path / "broken.parquet", single=True)
    with pytest.raises(UserError, match=r"missing\.parquet"):
        load_predictions(tmp_path / "missing.parquet", single=True)
