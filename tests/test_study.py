"""The study's grid: rows kept, cells in order of priority, a table that says what is there."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        found = importlib.util.spec_from_file_location("study", BENCHMARKS / "study.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules["study"] = module
        found.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


def row(study: ModuleType, objective: str, seed: int, value: float, task: str = "drums") -> object:
    spent = (0.0, 0, 0, 0.0) if objective == "random" else (0.5, 100, 1600, 12.5)
    return study.Row(
        objective, seed, "micro", *spent, task, "accuracy", value, 0.1, math.nan, 0.4, 0.1
    )


def test_rows_come_back(study: ModuleType, tmp_path: Path) -> None:
    rows = [row(study, "mspm", 1, 0.6), row(study, "mae", 0, 0.5)]
    study.write(tmp_path / "deep" / "rows.csv", rows)
    found = study.read(tmp_path / "deep" / "rows.csv")
    assert [(r.objective, r.seed, r.value, r.steps) for r in found] == [
        ("mae", 0, 0.5, 100),
        ("mspm", 1, 0.6, 100),
    ]
    assert math.isnan(found[0].high)
    assert study.read(tmp_path / "none.csv") == []


def test_every_objective_comes_before_the_next_seed(study: ModuleType) -> None:
    options = type("Options", (), {"objectives": ["mspm", "mae"], "seeds": [3, 4]})
    assert study.grid(options) == [
        ("mspm", 3), ("mae", 3), ("random", 3), ("mspm", 4), ("mae", 4), ("random", 4)
    ]  # fmt: skip
    rows = [row(study, "mspm", 3, 0.5), row(study, "random", 3, 0.4)]
    assert study.done(study.of(rows, "micro", 0.5), ("mspm", 3))
    assert not study.done(
        study.of(rows, "micro", 1.0), ("mspm", 3)
    )  # another budget is another cell
    assert study.done(study.of(rows, "micro", 1.0), ("random", 3))
    assert not study.of(rows, "tiny", 0.5)


def test_the_table_sets_objectives_beside_the_random_network(study: ModuleType) -> None:
    rows = [
        row(study, "mspm", 0, 0.55),
        row(study, "mspm", 1, 0.65),
        row(study, "random", 0, 0.5),
        row(study, "random", 0, 0.2, "tones"),
        row(study, "mspm", 0, 0.3, "tones"),
    ]
    lines = study.table(rows).splitlines()
    assert lines[0] == ("| objective | seeds | clips | minutes | drums | tones | mean gain |")
    assert lines[2] == "| mspm | 2 | 1,600 | 12 | 0.600 (0.550-0.650) | 0.300 | +35.0 % |"
    assert lines[3].startswith("| random | 1 | 0 | 0 | 0.500 | 0.200 | +0.0 % |")
    assert lines[4] == "| floor | | | | 0.400 | 0.400 | |"


def test_work_is_the_same_whatever_the_objective(study: ModuleType) -> None:
    few, many = (study.steps_for(name, "micro", 0.001) for name in ("mspm", "mae"))
    assert few >= 1
    assert many > 2 * few
