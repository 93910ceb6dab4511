"""Published checkpoints by the command line: convert, export, inspect, and using them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.published_files import (
    image_model,
    pretrained_ssast,
    supervised_ast,
    transformers_folder,
)

import sonoformer as sf
from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.pretraining.starting import starting_point


def sonoformer(*words: object) -> int:
    """The exit code of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for number in range(4):
        wave = rng.normal(0, 0.1, 16000 * (1 + number)).astype(np.float32)
        write(root / "field" / f"{number}.wav", wave, 16000)
    pretrained_ssast(root / "ssast.pth", "patch", "tiny", "std02")
    supervised_ast(root / "ast.pth", 1024, "wide")
    image_model(root / "deit.pth", "tiny224", "std02")
    transformers_folder(root / "theirs", "hf_ast_b", "wide")
    return root


def test_convert_a_classifier_and_use_it(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = world / "names.txt"
    names.write_text("\n".join(f"sound {number}" for number in range(527)))
    out = world / "converted"
    words = ("convert", world / "ast.pth", "--out", out, "--class-file", names)
    assert sonoformer(*words) == 2
    assert "--pool: cls (AST) or mean" in capsys.readouterr().err
    assert not out.exists()
    words += ("--pool", "cls", "--task", "multi", "--statistics", "audioset")
    assert sonoformer(*words) == 0
    assert "527 classes (sound 0, sound 1" in capsys.readouterr().out
    assert sonoformer(*words) == 2
    assert sonoformer(*words, "--overwrite") == 0
    card = (out / "model" / "README.md").read_text()
    assert "ast.pth" in card
    assert "reference profile" in card
    hints = {"pool": "cls", "task": "multi", "statistics": "audioset"}
    there = sf.load_model(world / "ast.pth", **hints)
    here = sf.load_model(out)
    spec = torch.randn(1, 1024, 128)
    with torch.inference_mode():
        assert torch.equal(there.logits(spec), here.logits(spec))
    code = sonoformer("predict", world / "field", "--model", out, "--out", world / "predicted")
    assert code == 0
    assert pl.read_csv(world / "predicted" / "predictions.csv").height == 4


def test_a_window_that_would_not_be_heard_is_refused(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", world / "field", "--model", world / "theirs", "--out", world / "no")
    assert sonoformer(*words) == 2
    error = capsys.readouterr().err
    assert "window" in error
    assert error.count("\n") == 1
    longest = json.loads((world / "theirs" / "config.json").read_text())["max_length"] * 0.01
    assert sonoformer(*words, "--window", f"{longest:.2f}") == 0


def test_convert_a_pretraining_and_go_on(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sonoformer("convert", world / "ssast.pth", "--out", world / "pre") == 0
    one, other = starting_point(world / "ssast.pth"), starting_point(world / "pre")
    assert one[0].config == other[0].config
    for first, second in ((one[0].state_dict(), other[0].state_dict()), (one[1], other[1])):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    code = sonoformer(
        "pretrain", world / "field", "--init", world / "pre", "--crop", "2", "--steps", "1",
        "--batch-size", "2", "--workers", "0", "--out", world / "on", "--holdout", "0",
    )  # fmt: skip
    assert code == 0
    capsys.readouterr()


def test_export_and_back(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sonoformer("convert", world / "theirs", "--out", world / "ours") == 0
    out = world / "exported"
    assert sonoformer("export", world / "ours", "--to", "transformers", "--out", out) == 0
    found = re.search(r"logits on noise differ by at most (\S+) from", capsys.readouterr().out)
    assert found
    assert float(found[1]) < 1e-6
    spec = torch.randn(1, 100, 128)
    with torch.inference_mode():
        one, other = (sf.load_model(world / name).logits(spec) for name in ("theirs", "exported"))
    assert (one - other).abs().max() < 1e-6
    assert sonoformer("export", world / "ssast.pth", "--out", world / "encoder") == 2
    assert "convert" in capsys.readouterr().err
    assert sonoformer("convert", world / "ssast.pth", "--out", world / "p2") == 0
    assert sonoformer("export", world / "p2", "--out", world / "encoder") == 2
    assert "give --frames" in capsys.readouterr().err
    assert sonoformer("export", world / "p2", "--frames", "300", "--out", world / "encoder") == 0
    assert "tokens on noise differ" in capsys.readouterr().out


def test_drop_head(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("convert", world / "ast.pth", "--drop-head", "--out", world / "headless")
    assert sonoformer(*words) == 0
    with pytest.raises(sf.UserError, match="no classifier"):
        sf.load_model(world / "headless")
    assert sf.load_encoder(world / "headless").config.front.fixed_frames is None
    code = sonoformer(
        "embed", world / "field" / "0.wav", "--encoder", world / "headless", "--out", world / "e"
    )
    assert code == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ssast.pth", ["pretrained SSAST", "tiny: width 192", "8 x 64", "pretext task"]),
        ("ast.pth", ["AST or fine-tuned SSAST", "stride 10 x 10", "527 classes", "--pool: cls"]),
        ("deit.pth", ["DeiT image model", "14 x 14"]),
        ("theirs", ["audio-spectrogram-transformer of transformers", "pools cls", "softmax"]),
    ],
)
def test_inspect_says_what_each_kind_is(
    world: Path, name: str, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sonoformer("inspect", world / name) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(part in text for part in said), text


def test_inspect_says_why_a_file_is_not_understood(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"layer1.conv.weight": torch.ones(3, 3)}, world / "resnet.pth")
    assert sonoformer("inspect", world / "resnet.pth") == 0
    text = capsys.readouterr().out
    assert "layer1.conv.weight" in text
    assert "no AST of a known layout" in text
