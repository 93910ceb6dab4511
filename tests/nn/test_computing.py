"""Modules that only answer: their mode comes back, and batches side by side change nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from sonoformer.nn.computing import evaluating, side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("training", [True, False])
def test_mode_comes_back_even_after_an_error(training: bool) -> None:
    module = nn.Sequential(nn.Linear(2, 2)).train(training)
    modes = []

    def fail() -> None:
        with evaluating(module):
            modes.extend([module.training, module[0].training])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert modes == [False, False]
    assert module.training is training


def test_results_are_those_of_map_in_order(three_threads: None) -> None:
    first = threading.Barrier(3)

    def squared(number: int) -> tuple[int, str, int]:
        if number < 3:
            first.wait(20)  # passes only if three are computed at once
        return number**2, threading.current_thread().name, torch.get_num_threads()

    found = list(side_by_side(squared, range(20), CPU))
    assert [square for square, _, _ in found] == [number**2 for number in range(20)]
    assert len({name for _, name, _ in found}) == 3
    assert {threads for _, _, threads in found} == {1}
    assert torch.get_num_threads() == 3


def test_items_are_taken_as_they_are_needed(three_threads: None) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = side_by_side(lambda number: number, items(), CPU)
    assert next(results) == 0
    assert len(taken) <= 5
    results.close()
    assert len(taken) <= 5


def test_other_devices_compute_one_by_one(three_threads: None) -> None:
    busy, most = threading.Lock(), []

    def alone(number: int) -> int:
        assert busy.acquire(blocking=False)
        most.append(torch.get_num_threads())
        busy.release()
        return number

    assert list(side_by_side(alone, range(10), torch.device("meta"))) == list(range(10))
    assert set(most) == {3}


def test_an_error_is_raised_where_results_are_taken(three_threads: None) -> None:
    def inverse(number: int) -> float:
        return 1 / number

    results = side_by_side(inverse, [1, 2, 0, 4], CPU)
    assert next(results) == 1
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)
