"""`sonoformer probe` and `sonoformer suite` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sonoformer.audio import write
from sonoformer.cli.main import VERBS, main, make_app
from sonoformer.encoders import AstConfig, AstEncoder, save_encoder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    encoder = AstEncoder(AstConfig(dim=24, depth=1, heads=2))
    save_encoder(encoder, root / "small", "card")
    rng = np.random.default_rng(0)
    rows = ["path,label,fold"]
    for n in range(16):
        wave = 0.3 * np.sin(2 * np.pi * (300, 2500)[n % 2] * np.arange(4000) / 16000)
        write(root / f"{n}.wav", (wave + rng.normal(0, 0.02, 4000)).astype(np.float32), 16000)
        rows.append(f"{n}.wav,{('low', 'high')[n % 2]},{n // 4}")
    (root / "mine.csv").write_text("\n".join(rows) + "\n")
    return root


def ended(*tokens: object) -> object:
    with pytest.raises(SystemExit) as end:
        main([str(token) for token in tokens])
    return end.value.code


QUICK = (
    *("--resamples", "100", "--no-floor"),
    *("--linear.penalties", "0.1", "--weighted.penalties", "0.1", "--weighted.iterations", "5"),
)


def test_one_option_takes_several_values() -> None:
    tokens = ["suite", "mine", "--linear.penalties", "1", "0.1", "--knn.neighbours", "3", "5"]
    _, bound, _ = make_app(tokens).parse_args(tokens, exit_on_error=False)
    config = bound.arguments["config"]
    assert config.linear.penalties == (1.0, 0.1)
    assert config.knn.neighbours == (3, 5)


@pytest.mark.parametrize("verb", VERBS)
def test_lists_have_no_option_that_empties_them(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not ended(verb, "--help")
    assert "empty-" not in capsys.readouterr().out


def test_probes_of_a_table(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "probe"
    asked = ("probe", world / "small", "--tasks", world / "mine.csv", "--probes", "linear", "knn")
    assert not ended(*asked, *QUICK, "--out", out)
    shown = capsys.readouterr().out
    assert "small, linear" in shown
    assert "small, knn" in shown
    assert (out / "table.csv").read_text().count("\n") == 3
    # A further probe joins those that are there.
    assert not ended(*asked, "weighted", *QUICK, "--out", out)
    assert (out / "table.csv").read_text().count("\n") == 4


def test_suite_of_several_encoders_and_of_none(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "suite"
    tasks = ("--tasks", world / "mine.csv", "--probe", "linear")
    assert not ended("suite", world / "small", *tasks, "--random", *QUICK, "--out", out)
    assert "random weights" in capsys.readouterr().out
    assert not ended("suite", *tasks, "--resamples", "100", "--out", tmp_path / "floors")
    assert "| svm |" in capsys.readouterr().out


def test_mistakes_are_said(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("suite", world / "small", "--tasks", "drums", "--out", tmp_path / "a") == 2
    assert "drum-hits" in capsys.readouterr().err
    assert ended("probe", world / "nothing", "--tasks", world / "mine.csv", "--out", tmp_path / "b")
    assert "nothing" in capsys.readouterr().err
