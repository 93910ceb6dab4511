"""Detection over long recordings: windows, resuming, damaged files, channels, files of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.tasks.detection.conftest import HERTZ, RATE, recording
from torch import Tensor

from sonoformer.audio import find, read, write
from sonoformer.cli.main import main
from sonoformer.data.annotations import read_annotations
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstConfig, AstEncoder
from sonoformer.errors import UserError
from sonoformer.inference import engine
from sonoformer.nn.tokens import Tokens
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.clips import open_clips
from sonoformer.tasks.detection.listen import DetectConfig, Detected, detect
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scoring import frame_scores, sigmoid
from sonoformer.tasks.heads import HeadConfig


class Deaf(AstEncoder):
    """Each token is its own patch: no context."""

    def encode(
        self,
        x: Tensor,
        valid: Tensor | None,
        grid: tuple[int, int],
        layers: Sequence[int] | None = None,
        **more: int,
    ) -> Tokens:
        prefix = x.new_zeros(len(x), self.config.prefix, x.shape[2])
        whole = torch.ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
        return Tokens(torch.cat([prefix, x], 1), grid, self.config.prefix, whole, 0.08)

    def position_table(self, grid: tuple[int, int]) -> Tensor:
        return torch.zeros(grid[0] * grid[1], self.dim)


def detector(kind: type[AstEncoder] = AstEncoder, head: str = "frames_mean") -> Detector:
    """An untrained detector whose scores spread over (0, 1)."""
    torch.manual_seed(0)
    front = FbankConfig(sample_rate=RATE, n_mels=16, mean=-8.0, std=4.0)
    shape = {"patch": (8, 8), "stride": (8, 8), "table": (2, 32), "table_stride": (8, 8)}
    encoder = kind(AstConfig(dim=16, depth=2, heads=2, front=front, **shape))  # type: ignore[arg-type]
    model = Detector(encoder, ("low", "high"), HeadConfig(head, single=False, softmax=False))  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.network.weight, std=2.0)  # type: ignore[union-attr,arg-type]
    model.seconds = 2.0
    return model.eval()


@pytest.fixture
def field(tmp_path: Path) -> Path:
    for number, seconds in enumerate((9.3, 0.7, 0.05, 21.0)):
        wave, _ = recording(number, seconds)
        write(tmp_path / "field" / f"{number}.wav", wave, RATE)
    return tmp_path / "field"


def run(model: Detector, folder: Path, work: Path, **options: object) -> Detected:
    files = {name: options.pop(name) for name in ("scores", "out") if name in options}
    config = DetectConfig(**options)  # type: ignore[arg-type]
    return detect(model, find([folder]), config, work, **files)  # type: ignore[arg-type]


def scores_of(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("join", ["triangle", "centre"])
def test_without_context_windows_give_what_the_whole_gives(
    field: Path, tmp_path: Path, overlap: float, join: str
) -> None:
    model = detector(Deaf)
    out = tmp_path / "scores"
    run(model, field, tmp_path / "work", overlap=overlap, join=join, scores="npy", out=out)
    for name, found in scores_of(out).items():
        wave = torch.from_numpy(read(field / f"{name}.wav", RATE))[None]
        whole = sigmoid(model.frame_logits(wave)[0][0].numpy())
        assert len(found) == max(1, model.grid.count(wave.shape[1]))
        assert found == pytest.approx(whole, abs=1e-5)


def test_with_context_every_column_comes_once_and_in_its_place(field: Path, tmp_path: Path) -> None:
    model = detector()
    run(model, field, tmp_path / "work", scores="npy", out=tmp_path / "scores")
    name, found = list(scores_of(tmp_path / "scores").items())[-1]
    wave = torch.from_numpy(read(field / f"{name}.wav", RATE))[None]
    grid, columns = model.grid, model.grid.count(2 * RATE)
    needed, hop = grid.needed(columns), columns // 2 * grid.samples
    first = model.frame_logits(wave[:, :needed])[0][0]
    second = model.frame_logits(wave[:, hop : hop + needed])[0][0]
    place = columns // 2 + 3
    weights = np.array([columns - place, 4.0])
    mixed = (weights[0] * first[place] + weights[1] * second[3]) / weights.sum()
    assert found[place] == pytest.approx(mixed.sigmoid().numpy(), abs=1e-5)
    assert found[0] == pytest.approx(first[0].sigmoid().numpy(), abs=1e-5)


def test_the_test_part_of_training_hears_what_detect_hears(field: Path, tmp_path: Path) -> None:
    model = detector()
    run(model, field, tmp_path / "work", scores="npy", out=tmp_path / "scores")
    paths = find([field])
    table = pl.DataFrame({"path": list(map(str, paths)), "labels": [["low"]] * len(paths)})
    clips = open_clips(Manifest.of(table), RATE, None, problem=lambda *_: None)
    scored = frame_scores(model, clips, seconds=2.0, batch_size=3)
    for path, mine in zip(paths, scored.scores, strict=True):
        assert mine == pytest.approx(np.load(tmp_path / "scores" / f"{path.stem}.npy"), abs=1e-5)


@pytest.mark.parametrize("head", ["frames_mean", "frames_full"])
def test_killed_and_resumed_gives_the_same_table(
    field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr(engine, "WINDOWS_PER_BLOCK", 4)
    model = detector(head=head)
    whole = run(model, field, tmp_path / "whole", scores="parquet", out=tmp_path / "one")
    assert len(whole.events) > 5
    original, calls = model.frame_logits, []

    def killed(*args: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(model, "frame_logits", killed)
    with pytest.raises(KeyboardInterrupt):
        run(model, field, tmp_path / "work", batch_size=4)
    again = run(
        model, field, tmp_path / "work", batch_size=4, scores="parquet", out=tmp_path / "two"
    )
    # In the middle of the long recording: what was finished is not computed again.
    assert 0 < again.report.resumed < again.report.resumed + again.report.windows
    assert again.events.equals(whole.events)
    for path in (tmp_path / "one").glob("*.parquet"):
        assert pl.read_parquet(path).equals(pl.read_parquet(tmp_path / "two" / path.name))
    third = run(model, field, tmp_path / "work", threshold=0.7)
    assert third.report.windows == 0
    assert not third.events.equals(whole.events)


def test_scores_and_events_are_about_the_same_times(field: Path, tmp_path: Path) -> None:
    model = detector()
    found = run(model, field, tmp_path / "work", scores="parquet", out=tmp_path / "scores")
    path = str(find([field])[-1])
    table = pl.read_parquet(tmp_path / "scores" / f"{Path(path).stem}.parquet")
    assert table.columns == ["time", "low", "high"]
    for row in found.events.filter(pl.col("path") == path).iter_rows(named=True):
        inside = table.filter(pl.col("time").is_between(row["start"] + 0.04, row["end"] - 0.04))
        assert (inside[row["label"]] >= 0.5 - 1e-6).all()
        if len(inside):
            assert row["score"] >= inside[row["label"]].max() - 1e-6  # type: ignore[operator]


def test_head_full_gives_bands(tmp_path: Path) -> None:
    model = detector(Deaf, "frames_full")
    head = model.head.network  # type: ignore[union-attr]
    with torch.no_grad():  # a token is as loud as its pixels, in every class
        model.encoder.patch_embed.proj.weight.zero_()  # type: ignore[union-attr,operator]
        model.encoder.patch_embed.proj.weight[0] = 0.2  # type: ignore[union-attr,index]
        head.weight.zero_()  # type: ignore[union-attr,operator]
        head.weight[:, 0] = 1.0  # type: ignore[index]
    time = np.arange(4 * RATE) / RATE
    for name, hertz in HERTZ.items():
        wave = 0.3 * np.sin(2 * np.pi * hertz * time) * ((time > 1) & (time < 3))
        write(tmp_path / "tones" / f"{name}.wav", (wave + 1e-5).astype(np.float32), RATE)
    # From silence to tone the token's value rises by some tens; the threshold lies between.
    quiet = model.frame_logits(torch.full((1, RATE), 1e-5))[1].amax()
    loud = model.frame_logits(torch.from_numpy(0.3 * np.sin(2513 * time)).float()[None])[1].amax()
    with torch.no_grad():
        head.bias.fill_(-float(quiet + loud) / 2)  # type: ignore[union-attr,operator]
    events = run(model, tmp_path / "tones", tmp_path / "work").events
    for name, hertz in HERTZ.items():
        mine = events.filter(pl.col("path").str.contains(name))
        assert len(mine) == 2
        assert (mine["low_hz"] < hertz).all()
        assert (mine["high_hz"] > hertz).all()
        assert ((mine["high_hz"] - mine["low_hz"]) < 3500).all()


def test_channels(tmp_path: Path) -> None:
    wave, _ = recording(0, 6.0)
    silent = np.zeros_like(wave)
    folder = tmp_path / "two"
    write(folder / "both.wav", np.stack([wave, silent], 1), RATE)
    write(folder / "none.wav", np.stack([silent, silent], 1), RATE)
    model = detector()
    mixed = run(model, folder, tmp_path / "mixed")
    said = {r.path.name: r.text for r in mixed.report.remarks}
    assert "channel 1 of 2 holds no sound" in said["both.wav"]
    assert said["none.wav"].startswith("it holds no sound")
    one = run(model, folder, tmp_path / "one", channel=0)
    assert [r.path.name for r in one.report.remarks] == ["none.wav"]
    assert set(one.events["channel"]) == {0}
    write(tmp_path / "mono" / "both.wav", wave, RATE)
    mono = run(model, tmp_path / "mono", tmp_path / "third")
    place = pl.col("path").str.contains("both")
    columns = ["start", "end", "label", "score"]
    assert one.events.filter(place).select(columns).equals(mono.events.select(columns))
    missing = run(model, folder, tmp_path / "fourth", channel=5)
    assert len(missing.report.problems) == 2


def test_bad_recordings_are_listed_and_the_others_heard(field: Path, tmp_path: Path) -> None:
    (field / "text.wav").write_text("no sound")
    whole = field / "3.wav"
    (field / "4.wav").write_bytes(whole.read_bytes()[: len(whole.read_bytes()) // 2])
    found = run(detector(), field, tmp_path / "work")
    assert [p.path.name for p in found.report.problems] == ["text.wav"]
    assert any(r.path.name == "4.wav" and "cut off" in r.text for r in found.report.remarks)
    cut = found.events.filter(pl.col("path").str.ends_with("4.wav"))
    assert cut["end"].max() <= found.report.durations[str(field / "4.wav")]  # type: ignore[operator]
    with pytest.warns(UserWarning, match=r"[34t].*wav") as said:
        table = detector().detect(field)
    assert {Path(str(w.message).split(": ")[0]).name for w in said} == {"text.wav", "4.wav"}
    assert table.equals(found.events)


def test_options_that_make_no_sense(field: Path, tmp_path: Path) -> None:
    model = detector()
    for wrong, sentence in (
        ({"overlap": 1.0}, "overlap"), ({"window": 0.0}, "window"), ({"threshold": 2.0}, "thresh"),
        ({"batch_size": 0}, "batch_size"), ({"channel": -1}, "channel"), ({"readers": 0}, "reader"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            DetectConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="less than one column"):
        run(model, field, tmp_path / "work", window=0.02)
    torch.nn.init.constant_(model.head.network.bias, float("nan"))  # type: ignore[union-attr,arg-type]
    with pytest.raises(UserError, match="no finite score"):
        run(model, field, tmp_path / "work")


def test_the_verb(
    field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = detector()
    model.save("model")
    command = ["detect", "field", "--model", "model", "--out", "found", "--device", "cpu"]

    def call(*more: str) -> int:
        with pytest.raises(SystemExit) as end:
            main([*command, *more])
        return int(end.value.code or 0)

    formats = ["raven", "audacity", "dcase", "rttm", "csv", "json", "jsonl", "parquet", "textgrid"]
    given = [word for name in formats for word in ("--format", name)]
    assert call(*given, "--scores", "npy") == 0
    table = model.detect("field")
    for name, file in (("parquet", "events.parquet"), ("raven", "events.selections.txt")):
        again = read_annotations(Path("found") / file, name)
        assert len(again) == len(table)
    assert len(list(Path("found/audacity").iterdir())) == 4
    assert len(list(Path("found/scores").iterdir())) == 4
    capsys.readouterr()
    assert call("--threshold", "0.8") == 0
    assert "from before" in capsys.readouterr().out
    assert call("--dry-run") == 0
    assert "4 recordings" in capsys.readouterr().out
    assert call("--channel", "-2") == 2


def test_a_classifier_of_clips_is_refused(field: Path, tmp_path: Path, capsys) -> None:
    from sonoformer.tasks.model import Model

    Model(detector().encoder, ("a", "b")).eval().save(tmp_path / "clips")
    with pytest.raises(SystemExit) as end:
        main(
            ["detect", str(field), "--model", str(tmp_path / "clips"), "--out", str(tmp_path / "o")]
        )
    assert end.value.code == 2
    assert "knows no times" in capsys.readouterr().err
