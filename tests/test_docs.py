"""Every command that README and docs show is one that the program takes, and does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.published_files import pretrained_ssamba, pretrained_ssast, supervised_ast

from sonoformer.audio import write
from sonoformer.cli.main import main, make_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {
    "pretrain": ["--size", "micro", "--steps", "3", "--batch-size", "4", "--overwrite"],
    "finetune": ["--size", "micro", "--steps", "3", "--batch-size", "4", "--overwrite"],
    "evaluate": ["--overwrite", "--resamples", "100"],
    "predict": ["--window", "1", "--overwrite"],
    "detect": ["--window", "1", "--overwrite"],
    "embed": ["--window", "1", "--overwrite"],
    "convert": ["--overwrite"],
    "data soundscapes": ["--minutes", "0.2", "--files", "5", "--rate", "30", "--overwrite"],
    "probe": ["--resamples", "100", "--overwrite"],
    "suite": [
        "--tasks",
        "labels.csv",
        "--resamples",
        "100",
        "--finetune-epochs",
        "1",
        "--overwrite",
    ],
}


def commands() -> list[tuple[str, str]]:
    """(page, command) for every line of a code block that is `sonoformer ...` or `torchrun ...`."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.splitlines():
                text = line.strip()
                if text.startswith(("sonoformer ", "torchrun ")):
                    found.append((page.name, text))
    return list(dict.fromkeys(found))


def split(command: str) -> tuple[list[str], list[str]]:
    """What starts the program, and what it is given."""
    words = shlex.split(command, comments=True)
    first = words.index("sonoformer") + 1
    return words[:first], words[first:]


# `--method list` is answered before options are read; the slow test runs it.
PARSED = [one for one in commands() if "--method list" not in one[1]]


@pytest.mark.parametrize(("page", "command"), PARSED)
def test_commands_of_the_docs_are_accepted(page: str, command: str) -> None:
    _, tokens = split(command)
    make_app(tokens).parse_args(tokens, exit_on_error=False, print_error=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and tables that the docs speak of, with short synthetic sounds."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    rows = ["path,species,site,speaker,split"]
    for folder in ("recordings", "field", "archive"):
        for number in range(12):
            tone = 300 * (1 + number % 3)
            length = 176000 if folder == "archive" and number < 2 else 24000
            wave = 0.3 * np.sin(2 * np.pi * tone * np.arange(length) / 16000)
            name = f"{folder}/{number}_20240{1 + number % 6}01_120000.wav"
            write(root / name, (wave + rng.normal(0, 0.01, length)).astype(np.float32), 16000)
            if folder == "recordings":
                part = ("train", "train", "train", "test", "test", "train")[number // 2]
                rows.append(f"{name},tone{number % 3},site{number // 2},s{number // 2},{part}")
    pool = [f"{row.split(',')[0]},{row.split(',')[2]},{n}.5" for n, row in enumerate(rows[1:])]
    for table in ("pool.csv", "debian-pool.csv", "shipped-pool.csv"):
        (root / table).write_text("\n".join(["path,group,weight", *pool]) + "\n")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    pretrained_ssast(root / "SSAST-Base-Patch-400.pth", "patch", "tiny", "std02")
    pretrained_ssamba(root / "ssamba_tiny_400.pth", "std02")
    supervised_ast(root / "audioset_10_10_0.4593.pth", 1024, "std02")
    names = "".join(f"{n},/m/{n},sound {n}\n" for n in range(527))
    (root / "class_labels_indices.csv").write_text("index,mid,display_name\n" + names)
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
    line = "1\tSpectrogram 1\t1\t0.5\t1\t0_20240101_120000.wav\tfrog\n"
    (root / "marks.selections.txt").write_text(head + line)
    (root / "marks.csv").write_text("file,start,end,species\nnight.flac,1,2,frog\n")
    (root / "names.yaml").write_text("frog: toad\n")
    heard = [row.split(",")[0] for row in rows[1:]]
    for table, label in (("calls.csv", "call"), ("kinds.csv", "call/tonal")):
        marks = "\n".join(f"{name},0.2,0.9,{label}" for name in heard)
        (root / table).write_text(f"path,start,end,label\n{marks}\n")
    there = [f"{name.replace('recordings', 'field')},0.2,0.9,call" for name in heard]
    tables = {
        "truth.csv": ["path,start,end,label", *there],
        "found.csv": ["path,start,end,label,score", *(f"{row},0.{len(row) % 7}" for row in there)],
        "nights.csv": ["path,seconds,group", *(f"{r.split(',')[0]},1.5,n{r[6]}" for r in there)],
    }
    for table, lines in tables.items():
        (root / table).write_text("\n".join(lines) + "\n")
    for name in ("owl", "fox"):
        write(root / f"clips/{name}/1.wav", rng.normal(0, 0.1, 8000).astype(np.float32), 16000)
    write(root / "night.flac", rng.normal(0, 0.1, 48000).astype(np.float32), 16000)
    return root


@pytest.mark.slow
def test_the_commands_of_the_docs_run(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("SONOFORMER_CACHE", str(world / "sets"))
    failed = []
    for page, command in commands():
        launcher, tokens = split(command)
        if tokens[0] == "demo" or tokens[:2] == ["data", "fetch"] or "--dry-run" in tokens[:1]:
            continue  # these need a network or minutes; tests/cli has them with small data
        if ended(launcher, smaller(tokens)) not in (None, 0):
            failed.append(f"{page}: {command}")
        if tokens[:2] == ["review", "export"]:
            sheet = world / "review" / "review.csv"
            sheet.write_text(sheet.read_text().replace(",,,,", ",confirmed,,,"))
    assert not failed


def smaller(tokens: list[str]) -> list[str]:
    """The command with little to do: options of `SMALL` take the place of its own."""
    instead = SMALL.get(tokens[0], SMALL.get(" ".join(tokens[:2]), []))
    kept, dropping = [], False
    for token in tokens:
        if token.startswith("--"):
            dropping = token in instead
        if not dropping:
            kept.append(token)
    return kept + instead


def ended(launcher: list[str], tokens: list[str]) -> object:
    """The exit code of a command."""
    if launcher[0] == "torchrun":
        program = [sys.executable, "-m", "torch.distributed.run", *launcher[1:], *tokens]
        return subprocess.run(program, check=False).returncode
    try:
        main(tokens)
    except SystemExit as end:
        return end.code
    return 0
