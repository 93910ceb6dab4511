"""What processes agree on, and how they end when something goes wrong in one of them."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import psutil
import pytest
from tests.together import run_together
from tests.training.conftest import Bench, Held, Toy, make_data
from tests.training.test_fitting import PLAIN

from sonoformer.errors import UserError
from sonoformer.run import Run
from sonoformer.training.config import TrainConfig
from sonoformer.training.devices import resolve_device
from sonoformer.training.fitting import fit
from sonoformer.training.processes import anywhere, from_leader, gathered, rank, together


def agree(folder: str) -> None:
    """Run in each process: what they tell each other, written down."""
    with together("cpu"):
        found = [
            from_leader(f"from {rank()}"),
            gathered(rank() * 10),
            anywhere(rank() == 1, False),
        ]
    (Path(folder) / f"{rank()}.txt").write_text(repr(found))


def test_processes_agree(tmp_path: Path) -> None:
    codes, said = run_together(3, "tests.training.test_processes:agree", str(tmp_path))
    assert codes == [0, 0, 0], said
    for number in range(3):
        assert (tmp_path / f"{number}.txt").read_text() == repr(
            ["from 0", [0, 10, 20], (True, False)]
        )


def test_one_process_agrees_with_itself() -> None:
    with together():
        assert (from_leader(3), gathered(3), anywhere(True, False)) == (3, [3], (True, False))


def diverge(folder: str) -> None:
    """Train a toy whose loss is no number in process 1, in its third step."""
    toy = Toy(at=lambda count: math.nan if rank() == 1 and count == 2 else 1.0)
    with together("cpu"), Run.start(Path(folder) / str(rank()), "toy", PLAIN, 5) as run:
        run.echo = None
        try:
            fit(toy, make_data(), Held(make_data(train=False)), PLAIN, run, seed=5, device="cpu")
        except UserError as error:
            sys.stdout.write(f"{error}\n")  # at once, so that no other process writes between
            raise SystemExit(2) from None


def test_a_loss_that_is_no_number_ends_all_with_the_same_words(tmp_path: Path) -> None:
    codes, said = run_together(2, "tests.training.test_processes:diverge", str(tmp_path))
    assert codes == [2, 2], said
    lines = [line for line in said.splitlines() if "not a finite number at step 3" in line]
    assert len(lines) == 2, said
    assert lines[0] == lines[1]
    assert lines[0].count(".wav") == 4


@pytest.mark.slow
def test_a_killed_loader_is_told_of_and_the_run_goes_on(bench: Bench) -> None:
    def kill(count: int) -> None:
        if count == 5:
            for child in psutil.Process().children(recursive=True):
                if child.ppid() != os.getpid() and "forkserver" in " ".join(child.cmdline()):
                    child.kill()

    config = TrainConfig(**{**vars(PLAIN), "workers": 1, "steps": 40})
    with pytest.raises(UserError, match=r"loads data has died .* --resume"):
        bench.fit("torn", config, Toy(at=kill))
    bench.fit("torn", config, resume=True)
    bench.fit("whole", config)
    whole, torn = ((bench.root / name / "metrics.csv").read_text() for name in ("whole", "torn"))
    assert torn == whole


def test_fsdp_needs_several_processes_and_no_averages(bench: Bench) -> None:
    config = TrainConfig(**{**vars(PLAIN), "strategy": "fsdp"})
    with pytest.raises(UserError, match="strategy: fsdp shares a model out among processes"):
        bench.fit("run", config)
    with pytest.raises(UserError, match="strategy: fsdp keeps no averages"):
        TrainConfig(strategy="fsdp", ema=0.9)


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="give auto, cpu or cuda"):
        resolve_device("cuda:0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match="1 GPUs for 2 processes"):
        resolve_device("auto")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert resolve_device("auto").index == 1
