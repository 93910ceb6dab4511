"""The grid of methods: rows kept, cells in order of priority, none done twice."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def grid() -> ModuleType:
    found = importlib.util.spec_from_file_location(
        "adaptation_grid", BENCHMARKS / "adaptation_grid.py"
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["adaptation_grid"] = module
    found.loader.exec_module(module)
    return module


class Pretended:
    """Gives rows without training."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.done = module, list[object]()

    def row(self, cell: object) -> object:
        self.done.append(cell)
        return self.module.Row(**asdict(cell), metric="accuracy", value=0.5)  # type: ignore[call-overload]


def test_cells_are_different_and_methods_come_first(grid: ModuleType) -> None:
    cells = list(grid.cells("drums", "tiny"))
    assert len(set(cells)) == len(cells)
    methods = [*grid.BARE, *grid.METHODS]
    assert [cell.method for cell in cells[: len(methods)]] == methods
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_rows_are_kept_and_not_computed_again(grid: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.csv"
    wanted = list(grid.cells("drums", "tiny", 1))
    first = Pretended(grid)
    assert not grid.fill(first, wanted[:5], path, 1.0)
    assert [grid.cell_of(row) for row in grid.read(path)] == wanted[:5]
    second = Pretended(grid)
    assert not grid.fill(second, wanted, path, 1.0)
    assert second.done == wanted[5:]
    assert grid.fill(Pretended(grid), list(grid.cells("drums", "tiny", 2)), path, -1.0)


def test_a_table_says_each_cell_once(grid: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        grid.Row("drums", "tiny", method, seed=seed, value=value)
        for method, seed, value in (("lora", 0, 0.5), ("lora", 1, 0.7), ("probe", 0, 0.4))
    ]
    grid.show(rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["lora", "probe"]
    assert "0.600" in lines[0]
    assert "seeds 2" in lines[0]
