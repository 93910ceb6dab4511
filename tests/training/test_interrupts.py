"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sonoformer.training.interrupts import Interrupted, StopRequest


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    request = StopRequest()
    request.install()
    request.install()
    yield request
    request.restore()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_the_first_signal_asks_and_the_second_stops(
    stop: StopRequest, number: int, name: str
) -> None:
    assert not stop
    os.kill(os.getpid(), number)
    assert stop
    assert stop.name == name
    with pytest.raises(Interrupted, match=rf"{name}.*--resume") as caught:
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number


def test_a_second_signal_waits_for_the_checkpoint(stop: StopRequest) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    written = []

    def save() -> None:
        with stop.saving():
            os.kill(os.getpid(), signal.SIGINT)
            written.append("whole")

    with pytest.raises(Interrupted):
        save()
    assert written == ["whole"]


def test_a_first_signal_while_saving_only_asks(stop: StopRequest) -> None:
    with stop.saving():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop
