"""The main road by the command line, on a tiny synthetic world; and what its mistakes look like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

import sonoformer as sf
from sonoformer.audio import write
from sonoformer.cli.main import main

SMALL = ["--size", "micro", "--steps", "4", "--batch-size", "4", "--workers", "0"]

PRETRAIN = [*SMALL, "--holdout", "0.2"]


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
    rows = ["file,species,site,split"]
    for number in range(24):
        name = f"recordings/{number:02d}.wav"
        hum = np.sin(2 * np.pi * (300, 900, 2700)[number % 3] * np.arange(12000) / 12000)
        write(root / name, (0.2 * hum + rng.normal(0, 0.01, 12000)).astype(np.float32), 12000)
        part = "test" if number >= 18 else "train"
        rows.append(f"{name},tone{number % 3},site{number // 3},{part}")
    (root / "recordings" / "broken.wav").write_text("this is no sound")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    night = rng.normal(0, 0.1, 30 * 8000).astype(np.float32)
    write(root / "field" / "20240501_220000.wav", night, 8000)
    assert sonoformer("pretrain", root / "recordings", "--out", root / "pre", *PRETRAIN) == 0
    code = sonoformer(
        "finetune", root / "labels.csv", "--init", root / "pre", "--out", root / "fine", *SMALL,
        "--resamples", "100",
    )  # fmt: skip
    assert code == 0
    return root


def test_pretraining_leaves_all_it_promises(world: Path) -> None:
    run = world / "pre"
    for name in ("config.yaml", "environment.json", "log.txt", "metrics.csv", "metrics.json"):
        assert (run / name).stat().st_size > 0
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "broken.wav" in (run / "problems.csv").read_text()
    state = json.loads((run / "run.json").read_text())
    assert state["status"] == "finished"
    assert len(state["data"]) == 24
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["validation"]["chance"] < 1
    encoder = sf.load_encoder(run)
    assert encoder.embed(world / "field" / "20240501_220000.wav", window=10.0).shape == (3, 128)


def test_the_same_seed_gives_the_same_weights(world: Path, tmp_path: Path) -> None:
    assert sonoformer("pretrain", world / "recordings", "--out", tmp_path / "again", *PRETRAIN) == 0
    ours = load_file(world / "pre" / "model" / "model.safetensors")
    theirs = load_file(tmp_path / "again" / "model" / "model.safetensors")
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_finetuning_leaves_model_report_and_predictions(world: Path) -> None:
    run = world / "fine"
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
    assert pl.read_parquet(run / "predictions.parquet").height == 6
    model = sf.load_model(run)
    assert model.classes == ("tone0", "tone1", "tone2")


def test_flags_go_over_recipes_and_recipes_over_defaults(world: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("crop: 0.5\ntrain:\n  optimiser: {lr: 0.01}\n  batch_size: 3\n")
    code = sonoformer(
        "pretrain", world / "recordings", "--out", tmp_path / "run", "--recipe", recipe,
        "--size", "micro", "--steps", "2", "--optimiser.lr", "0.02", "--workers", "0",
    )  # fmt: skip
    assert code == 0
    from sonoformer.settings import read_yaml

    config = read_yaml(tmp_path / "run" / "config.yaml")
    assert config["crop"] == 0.5
    assert config["train"]["batch_size"] == 3
    # One flag of a nested group leaves the group's other defaults alone.
    assert config["train"]["optimiser"]["lr"] == 0.02
    assert config["train"]["optimiser"]["betas"] == [0.95, 0.999]


def test_evaluate_predict_embed_and_inspect(world: Path, capsys: pytest.CaptureFixture) -> None:
    fine = world / "fine"
    out = world / "eval"
    labels = world / "labels.csv"
    assert sonoformer("evaluate", labels, "--model", fine, "--split", "test", "--out", out) == 0
    assert json.loads((out / "metrics.json").read_text())["clips"] == 6
    words = ("predict", world / "field", world / "recordings", "--model", fine, "--window", 2)
    out = world / "predict"
    assert sonoformer(*words, "--out", out, "--format", "csv", "--format", "raven") == 0
    table = pl.read_csv(out / "predictions.csv")
    assert table.columns[:4] == ["path", "start", "end", "clock"]
    assert table.height == 15 + 24
    assert "broken.wav" in (out / "problems.csv").read_text()
    assert sonoformer(*words, "--out", out, "--format", "audacity", "--threshold", 0.1) == 0
    assert "39 from before" in capsys.readouterr().out
    out = world / "embed"
    assert sonoformer("embed", world / "field", "--encoder", world / "pre", "--out", out) == 0
    assert pl.read_parquet(out / "embeddings.parquet")["embedding"].dtype.shape == (128,)
    for thing in (world / "pre", world / "pre" / "model", labels, world / "recordings" / "00.wav"):
        assert sonoformer("inspect", thing) == 0


def test_a_mended_recording_is_no_longer_listed(world: Path, tmp_path: Path) -> None:
    field, out = tmp_path / "field", tmp_path / "out"
    write(field / "good.wav", np.full(8000, 0.1, np.float32), 8000)
    (field / "bad.wav").write_text("no sound")
    words = ("predict", field, "--model", world / "fine", "--out", out)
    assert sonoformer(*words) == 0
    assert "bad.wav" in (out / "problems.csv").read_text()
    write(field / "bad.wav", np.full(8000, 0.1, np.float32), 8000)
    assert sonoformer(*words) == 0
    assert not (out / "problems.csv").exists()
    assert pl.read_csv(out / "predictions.csv").height == 2


def test_a_recording_that_is_cut_off_is_named(world: Path, tmp_path: Path) -> None:
    cut = tmp_path / "field" / "cut.wav"
    write(cut, np.full(16000, 0.1, np.float32), 8000)
    cut.write_bytes(cut.read_bytes()[:16000])
    fine, out = world / "fine", tmp_path / "predicted"
    assert sonoformer("predict", cut.parent, "--model", fine, "--out", out) == 0
    assert "cut.wav: is cut off" in (out / "log.txt").read_text(encoding="utf-8")
    out = tmp_path / "embedded"
    assert sonoformer("embed", cut.parent, "--encoder", fine, "--out", out) == 0
    assert "cut.wav: is cut off" in (out / "log.txt").read_text(encoding="utf-8")
    with pytest.warns(UserWarning, match=r"cut\.wav: is cut off"):
        sf.load_model(fine).predict(cut)


def test_python_predicts_as_the_command_does(world: Path) -> None:
    table = sf.load_model(world / "fine").predict([world / "field"], window=5.0)
    with pytest.raises(sf.UserError, match="Did you mean 'window'"):
        sf.load_model(world / "fine").predict(world / "field", windows=5.0)
    assert table.height == 6
    assert abs(table.select("tone0", "tone1", "tone2").sum_horizontal() - 1).max() < 1e-5


def test_data_check_split_and_pack(world: Path, tmp_path: Path) -> None:
    labels = world / "labels.csv"
    assert sonoformer("data", "check", labels, "--group-column", "site") == 0
    split = tmp_path / "folds.csv"
    words = ("data", "split", labels, split, "--group-column", "site", "--folds", 4)
    assert sonoformer(*words) == 0
    folds = sf.Manifest.read(split, separator=";", allow_absolute=True).table
    assert folds.group_by("group").agg(pl.col("fold").n_unique())["fold"].max() == 1
    packed = tmp_path / "packed"
    words = ("data", "pack", world / "field", "--out", packed, "--hours", 0.003, "--seconds", 2)
    assert sonoformer(*words, "--dry-run") == 0
    assert not packed.exists()
    assert sonoformer(*words, "--yes") == 0
    assert sonoformer(*words[:-4], "--hours", 0.005, "--seconds", 2, "--yes") == 0
    assert pl.read_parquet(packed / "selection.parquet").height == 9


def test_dry_runs_leave_nothing(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "none"
    assert sonoformer("pretrain", world / "recordings", "--out", out, *SMALL, "--dry-run") == 0
    assert sonoformer("finetune", world / "labels.csv", "--out", out, *SMALL, "--dry-run") == 0
    words = ("predict", world / "field", "--model", world / "fine", "--out", out, "--dry-run")
    assert sonoformer(*words) == 0
    assert not out.exists()
    said = capsys.readouterr().out
    assert said.count("GiB") >= 2
    assert "MiB of memory" in said


NEW = "new"  # an --out that no test leaves anything in
MISTAKES = {
    "unknown flag": (["pretrain", "recordings", "--epoks", "3"], "--epochs"),
    "unknown verb": (["predikt"], "predict"),
    "missing folder": (["pretrain", "nothing/", "--out", NEW], "nothing"),
    "no sound": (["pretrain", "empty/", "--out", NEW], "empty"),
    "only bad files": (["pretrain", "bad/", "--out", NEW], "usable"),
    "folder in use": (["pretrain", "recordings", "--out", "pre", *SMALL], "--resume"),
    "nothing to resume": (["pretrain", "recordings", "--out", NEW, "--resume"], "resume"),
    "unknown recipe": (["pretrain", "recordings", "--recipe", "ssast-tinny"], "ssast-tiny"),
    "recipe with a typo": (["pretrain", "recordings", "--recipe", "typo.yaml"], "crop"),
    "bad value": (["pretrain", "recordings", "--crop", "-1"], "crop"),
    "no labels": (["finetune", "plain.csv", "--out", NEW], "--label-column"),
    "one class": (["finetune", "one.csv", "--out", NEW], "tell apart"),
    "no model": (["predict", "field", "--model", "nowhere"], "nowhere"),
    "encoder as model": (["predict", "field", "--model", "pre"], "finetune"),
    "bad threshold": (["predict", "field", "--model", "fine", "--threshold", "2"], "threshold"),
    "unknown split": (["evaluate", "labels.csv", "--model", "fine", "--split", "tset"], "test"),
    "unknown set": (["data", "fetch", "esc11"], "esc10"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_sentence_and_exit_2(
    name: str,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(world)
    (world / "empty").mkdir(exist_ok=True)
    (world / "bad").mkdir(exist_ok=True)
    (world / "bad" / "text.wav").write_text("no sound")
    (world / "typo.yaml").write_text("cropp: 1\n")
    (world / "plain.csv").write_text("file\nrecordings/00.wav\n")
    (world / "one.csv").write_text(
        "file,species\n" + "".join(f"recordings/{n:02d}.wav,frog\n" for n in range(8))
    )
    words, hint = MISTAKES[name]
    words = [str(tmp_path / word) if word == NEW else word for word in words]
    assert sonoformer(*words) == 2
    said = capsys.readouterr()
    text = " ".join((said.err + said.out).replace("│", " ").split())
    assert hint in text
    assert "Traceback" not in text


def test_a_corrected_command_may_follow_a_failed_one(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (world / "void").mkdir(exist_ok=True)
    assert sonoformer("pretrain", world / "void", "--out", out, *SMALL) == 2
    assert sonoformer("pretrain", world / "recordings", "--out", out, *SMALL) == 0
    assert sonoformer("pretrain", world / "recordings", "--out", out, *SMALL) == 2


def test_methods_are_listed_with_their_size(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sonoformer("finetune", "--method", "list", "--init", world / "pre") == 0
    said = capsys.readouterr().out
    lora = next(line for line in said.splitlines() if line.startswith("lora"))
    # Two products of rank 8 at queries and values of five blocks of 128, and the final norm.
    assert f"{5 * 2 * 2 * 8 * 128 + 256:,}" in lora
    assert "deep-prompt" in said
    assert sonoformer("finetune", "--method", "list", "--init", "no-such") == 2


def test_few_weights_are_trained_and_used(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = sonoformer(
        "finetune", world / "labels.csv", "--init", world / "pre", "--out", tmp_path / "lora",
        "--steps", "4", "--batch-size", "4", "--workers", "0", "--resamples", "100",
        "--method", "lora", "--petl.rank", "2",
    )  # fmt: skip
    assert code == 0
    # The method's own rate, as nobody chose another.
    assert "lr: 0.005" in (tmp_path / "lora" / "config.yaml").read_text()
    small = (tmp_path / "lora" / "model" / "model.safetensors").stat().st_size
    assert small < 0.05 * (world / "pre" / "model" / "model.safetensors").stat().st_size
    out = tmp_path / "table"
    assert sonoformer("predict", world / "field", "--model", tmp_path / "lora", "--out", out) == 0
    assert sonoformer("inspect", tmp_path / "lora") == 0
    assert "lora" in capsys.readouterr().out
