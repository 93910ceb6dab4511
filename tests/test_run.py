"""The folder a command leaves behind."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sonoformer.errors import UserError
from sonoformer.run import Run, differing
from sonoformer.settings import read_yaml


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Options:
    inner: Inner = Inner()
    batch: int = 4
    workers: int = 0
    name: str | None = None


def _finished(folder: Path, config: object = Options(), seed: int = 1) -> None:
    with Run.start(folder, "pretrain", config, seed) as run:
        run.log("hello", show=False)


def test_leaves_config_environment_and_status(tmp_path: Path) -> None:
    _finished(tmp_path / "run")
    config = read_yaml(tmp_path / "run/config.yaml")
    assert config["inner"] == {"lr": 1e-4, "betas": [0.9, 0.999]}
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert {"python", "torch", "numpy", "sonoformer", "platform", "cpus"} <= set(environment)
    if sys.platform == "linux":
        assert environment["processor"]
    state = json.loads((tmp_path / "run/run.json").read_text())
    assert (state["verb"], state["seed"], state["status"]) == ("pretrain", 1, "finished")
    assert "hello" in (tmp_path / "run/log.txt").read_text()


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_records_how_it_ended(tmp_path: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), Run.start(tmp_path / "run", "pretrain", Options(), 0):
        raise error("for a reason")
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == status
    assert "for a reason" in (tmp_path / "run/log.txt").read_text()


def test_refuses_a_folder_that_holds_a_run_and_names_the_ways_out(tmp_path: Path) -> None:
    _finished(tmp_path)
    with pytest.raises(UserError, match=r"--resume.*--overwrite.*another --out"):
        Run.start(tmp_path, "pretrain", Options(), 1)


def test_never_empties_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"not empty.*another --out"):
            Run.start(tmp_path, "pretrain", Options(), 1, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_overwrite_starts_clean(tmp_path: Path) -> None:
    _finished(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").write_text("old")
    with Run.start(tmp_path, "pretrain", Options(batch=9), 2, overwrite=True):
        assert not (tmp_path / "checkpoints").exists()
    assert read_yaml(tmp_path / "config.yaml")["batch"] == 9
    assert "hello" not in (tmp_path / "log.txt").read_text()


def test_a_file_in_the_way_and_an_unwritable_parent_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match="another --out"):
            Run.start(folder, "pretrain", Options(), 1)


def test_resume_needs_a_run_of_the_same_verb(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave out --resume"):
        Run.start(tmp_path / "none", "pretrain", Options(), 1, resume=True)
    _finished(tmp_path)
    with pytest.raises(UserError, match=r"`pretrain`, which `finetune` cannot resume"):
        Run.start(tmp_path, "finetune", Options(), 1, resume=True)


def test_resume_lists_every_option_that_changed(tmp_path: Path) -> None:
    _finished(tmp_path)
    changed = Options(inner=Inner(lr=2e-4), batch=8)
    with pytest.raises(UserError, match=r"inner\.lr: 0\.0001 -> 0\.0002; batch: 4 -> 8"):
        Run.start(tmp_path, "pretrain", changed, 1, resume=True)
    with pytest.raises(UserError, match="seed: 1 -> 2"):
        Run.start(tmp_path, "pretrain", Options(), 2, resume=True)


def test_resume_allows_what_does_not_change_the_result(tmp_path: Path) -> None:
    _finished(tmp_path)
    with Run.start(tmp_path, "pretrain", Options(workers=3), 1, resume=True) as run:
        assert run.resumed
    log = (tmp_path / "log.txt").read_text()
    assert "hello" in log
    assert "workers: 0 -> 3" in log


def test_resume_says_when_the_software_changed(tmp_path: Path) -> None:
    _finished(tmp_path)
    environment = json.loads((tmp_path / "environment.json").read_text())
    (tmp_path / "environment.json").write_text(json.dumps({**environment, "torch": "1.0"}))
    with Run.start(tmp_path, "pretrain", Options(), 1, resume=True):
        pass
    assert "torch was 1.0" in (tmp_path / "log.txt").read_text()


def test_the_data_of_a_resumed_run_must_be_the_same(tmp_path: Path) -> None:
    with Run.start(tmp_path, "pretrain", Options(), 1) as run:
        run.data("abc")
    with Run.start(tmp_path, "pretrain", Options(), 1, resume=True) as run:
        run.data("abc")
        with pytest.raises(UserError, match="abc, now def"):
            run.data("def")


def test_problems_are_listed_once_and_kept_over_a_resume(tmp_path: Path) -> None:
    with Run.start(tmp_path, "predict", Options(), 1) as run:
        run.problem("a, b.wav", "holds no samples")
        run.problem("a, b.wav", "holds no samples")
    with Run.start(tmp_path, "predict", Options(), 1, resume=True) as run:
        run.problem("a, b.wav", "holds no samples")
        run.problem("c.wav", 'not "audio"')
    with open(tmp_path / "problems.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["path", "reason"], ["a, b.wav", "holds no samples"], ["c.wav", 'not "audio"']]
    assert "2 files were skipped" in (tmp_path / "log.txt").read_text()


def test_metrics_merge_and_hold_no_nan(tmp_path: Path) -> None:
    with Run.start(tmp_path, "evaluate", Options(), 1) as run:
        run.metrics({"fold": {"1": {"accuracy": 0.5}}})
        run.metrics({"fold": {"2": {"accuracy": float("nan")}}, "mean": 0.5})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "fold": {"1": {"accuracy": 0.5}, "2": {"accuracy": None}},
        "mean": 0.5,
    }


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    with Run.start(tmp_path, "pretrain", {}, 1):
        code = (
            "import sys; from sonoformer.run import Run\n"
            f"try: Run.start({str(tmp_path)!r}, 'pretrain', {{}}, 1, resume=True)\n"
            "except Exception as error: print(error); assert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process is running there" in done.stdout
    assert done.returncode == 0, done.stderr
    with Run.start(tmp_path, "pretrain", {}, 1, resume=True):
        pass


def test_differing_names_missing_options() -> None:
    assert differing({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "d": 3}}) == {
        "a.d": (None, 3),
        "c": (2, None),
    }
