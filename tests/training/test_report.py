"""What a run tells while it trains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tests.training.conftest import Bench

from sonoformer.data.batch import Batch
from sonoformer.errors import MissingExtraError
from sonoformer.run import Run
from sonoformer.training.config import TrainConfig
from sonoformer.training.learner import Learner
from sonoformer.training.pace import Pace, Watched
from sonoformer.training.progress import Bar
from sonoformer.training.validation import evaluate

SHORT = TrainConfig(epochs=1.0, batch_size=4, workers=0)


def _batch(clips: int, problems: list[str] | None = None) -> Batch:
    lengths = torch.full((clips,), 8000)
    return Batch(torch.zeros(clips, 8000), lengths, torch.arange(clips), problems=problems or [])


def test_pace_counts_clips_audio_and_waiting_but_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("sonoformer.training.pace.time.perf_counter", lambda: clock[0])
    pace = Pace(16000)
    pace.fetched(_batch(4), waited=0.5)
    clock[0] += 2
    with pace.paused(), pace.paused():
        clock[0] += 10
        assert pace.read() == {
            "seconds": 2.0,
            "paused_seconds": 10.0,
            "clips_per_second": 2.0,
            "audio_seconds_per_second": 1.0,
            "wait_share": 0.25,
        }
        clock[0] += 10
    clock[0] += 2
    later = pace.read()
    assert (later["seconds"], later["paused_seconds"]) == (2.0, 10.0)
    assert later["clips_per_second"] == 0.0


def test_a_watched_loader_is_the_loader_and_lists_what_was_skipped() -> None:
    found: list[tuple[str, str]] = []
    batches = [_batch(1), _batch(2, ["a/b.wav: holds: nothing"])]
    watched = Watched(batches, 9, Pace(1), lambda path, reason: found.append((path, reason)))
    assert list(watched) == batches
    assert len(watched) == 9
    assert found == [("a/b.wav", "holds: nothing")]


def test_what_validation_left_out_is_listed(bench: Bench) -> None:
    with Run.start(bench.root / "run", "toy", {}, 0) as run:
        evaluate(_Deaf(), [_batch(1, ["c.wav: empty"])], torch.device("cpu"), problem=run.problem)
        assert run.problems == [("c.wav", "empty")]


class _Deaf(Learner):
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {}


def test_the_bar_shows_speed_and_gives_the_log_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run.start(tmp_path, "toy", {}, 0) as run:
        echo = run.echo
        bar = Bar(run, total=10, done=2, show=True)
        bar.tell(
            0.5, {"clips_per_second": 12.5, "audio_seconds_per_second": 125, "wait_share": 0.1}
        )
        bar.advance(10)
        run.log("[a line] above the bar")
        bar.close()
        assert run.echo is echo
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "12.5 clips/s" in shown
    assert "waiting 10%" in shown
    assert "[a line] above the bar" in shown


def test_no_bar_where_nobody_looks(tmp_path: Path) -> None:
    with Run.start(tmp_path, "toy", {}, 0) as run:
        assert not Bar(run, 10, 0).shown


def test_tensorboard_that_is_not_installed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"sonoformer\[tensorboard\]"):
        bench.fit("run", TrainConfig(epochs=1.0, batch_size=4, workers=0, tensorboard=True))


@pytest.mark.slow
def test_tensorboard_holds_the_curves(bench: Bench) -> None:
    bench.fit("run", TrainConfig(epochs=2.0, batch_size=4, workers=0, tensorboard=True))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(bench.root / "run/tensorboard"))
    events.Reload()
    assert {"train/loss", "valid/mse", "lr", "speed/clips_per_second"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("valid/mse")] == [10, 20]
