"""Curves: what is on the disk, also after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.training.curves import draw
from sonoformer.training.journal import Table, Window


def test_a_new_column_widens_the_table(tmp_path: Path) -> None:
    table = Table(tmp_path / "metrics.csv")
    table.add({"step": 1, "loss": 0.5})
    table.add({"step": 2, "loss": 0.25, "valid/mse": 3.0})
    table.add({"step": 3, "loss": float("nan")})
    text = (tmp_path / "metrics.csv").read_text()
    assert text == "step,loss,valid/mse\n1,0.5,\n2,0.25,3.0\n3,nan,\n"


def test_rows_after_the_restored_step_go_and_bytes_agree(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1 / s, **({"valid/a": s / 7} if s % 2 else {})} for s in (2, 3, 4)]
    whole = Table(tmp_path / "whole.csv")
    for row in rows:
        whole.add(row)
    torn = Table(tmp_path / "torn.csv")
    for row in rows:
        torn.add(row)
    resumed = Table(tmp_path / "torn.csv", last_step=3)
    assert resumed.rows == rows[:2]
    resumed.add(rows[2])
    assert (tmp_path / "torn.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert Table(tmp_path / "torn.csv").rows == []
    assert not (tmp_path / "torn.csv").exists()


def test_a_half_written_row_is_dropped(tmp_path: Path) -> None:
    """`120,0.5` cut to `12` would otherwise pass for a row of step 12."""
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n20,0.5\n12")
    assert Table(path, last_step=100).rows == [{"step": 20, "loss": 0.5}]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), st.data())
def test_a_window_survives_a_checkpoint_bit_for_bit(
    values: list[float], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values)))
    whole, first, second = Window(), Window(), Window()
    for value in values:
        whole.add({"loss": torch.tensor(value)})
    for value in values[:cut]:
        first.add({"loss": torch.tensor(value)})
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    for value in values[cut:]:
        second.add({"loss": torch.tensor(value)})
    mean = whole.close()["loss"]
    assert second.close()["loss"] == mean
    assert mean == pytest.approx(sum(values) / len(values), rel=1e-9, abs=1e-6)
    assert whole.close() == {}


def test_curves_are_one_picture_with_a_panel_a_metric(tmp_path: Path) -> None:
    rows = [
        {"step": s, "epoch": s / 2, "lr": 0.1, "train/loss": 1 / s, "valid/loss": 2 / s}
        for s in (1, 2, 3)
    ]
    rows.append({"step": 4, "epoch": 2, "lr": 0.1, "train/loss": float("nan")})
    draw(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    draw([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
