"""`--profile reference` from the command line: pretrain, then fine-tune, as the authors do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sonoformer as sf
from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.settings import read_yaml

FIXTURES = Path(__file__).parents[1] / "fixtures" / "fbank"
SHORT = ["--workers", "0", "--profile", "reference", "--steps", "2"]


def sonoformer(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("authors")
    rng = np.random.default_rng(0)
    for number, seconds in enumerate((1.0, 11.0, 3.0)):
        sound = rng.normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
        write(root / "sounds" / f"{number}.wav", sound, 16000)
    code = sonoformer(
        "pretrain", root / "sounds", "--out", root / "pre", "--recipe", "ssast-tiny",
        "--size", "micro", "--batch-size", "2", *SHORT,
    )  # fmt: skip
    assert code == 0
    return root


def test_the_run_holds_plain_options_and_the_model_hears_as_the_authors(pretrained: Path) -> None:
    config = read_yaml(pretrained / "pre" / "config.yaml")
    assert not {"profile", "profiles"} & set(config)
    assert (config["crops"], config["size"], config["train"]["batch_size"]) == ("first", "micro", 2)
    assert config["mspm"]["passes"] == 2
    assert config["train"]["schedule"]["warmup"] == "reference"
    assert config["train"]["schedule"]["name"] == "plateau"  # the recipe's own, below
    encoder = sf.load_encoder(pretrained / "pre")
    for name in ("noise", "mixed"):
        with np.load(FIXTURES / f"fbank_{name}.npz") as found:
            wave = torch.from_numpy(found["waveform"]).unsqueeze(0)
            spec, frames = encoder.front(wave, torch.tensor([wave.shape[1]]))
            rows = found["loader_audioset_t1024_rows"].astype(int)
            assert frames.tolist() == [1024]
            assert spec.shape == (1, 1024, 128)
            np.testing.assert_allclose(
                spec[0, rows].numpy(), found["loader_audioset_t1024"], atol=1e-3
            )


def test_fine_tuning_goes_on_from_it(pretrained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = ["file,label,split"]
    for number in range(12):
        sound = rng.normal(0, 0.1, 16000).astype(np.float32)
        write(tmp_path / f"{number}.wav", sound, 16000)
        part = ("train", "train", "validation", "test")[number // 3]
        rows.append(f"{number}.wav,{'abc'[number % 3]},{part}")
    (tmp_path / "words.csv").write_text("\n".join(rows) + "\n")
    code = sonoformer(
        "finetune", tmp_path / "words.csv", "--init", pretrained / "pre", "--out", tmp_path / "run",
        "--recipe", "speech-commands-v2", "--stride", "10", "10", "--batch-size", "4",
        "--resamples", "100", *SHORT,
    )  # fmt: skip
    assert code == 0
    shape = sf.load_model(tmp_path / "run").encoder.config
    assert (shape.stride, shape.table, shape.positions) == ((10, 10), (12, 12), "reference")
    front = shape.front
    assert (front.padding, front.fixed_frames, front.mean) == ("reference", 128, -6.845978)
    assert read_yaml(tmp_path / "run" / "config.yaml")["augment"]["masks"] == "reference"


def test_a_profile_without_a_recipe_is_a_sentence(capsys: pytest.CaptureFixture) -> None:
    assert sonoformer("pretrain", "sounds", "--profile", "reference") == 2
    assert "belongs to a recipe" in capsys.readouterr().err
    words = ("pretrain", "sounds", "--recipe", "ssast-tiny", "--profile", "referense")
    assert sonoformer(*words) == 2
    assert "Did you mean 'reference'?" in capsys.readouterr().err
