"""The demo, on tones: from an encoder that has listened before to a page that compares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sonoformer.audio import write
from sonoformer.cli.demo import DemoConfig, demo
from sonoformer.encoders import AstEncoder, ast_config, load_encoder, save_encoder
from sonoformer.errors import UserError

SHORT = {"pretrain_steps": 2, "finetune_steps": 2, "labels": 3, "seeds": 1, "recording": 4.0}


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Two kinds of tone at three sites."""
    rng = np.random.default_rng(0)
    rows = ["file,species,group"]
    for number in range(18):
        hum = np.sin(2 * np.pi * (300, 1200)[number % 2] * np.arange(12000) / 16000)
        sound = 0.2 * hum + rng.normal(0, 0.02, 12000)
        write(tmp_path / f"{number}.wav", sound.astype(np.float32), 16000)
        rows.append(f"{number}.wav,tone{number % 2},site{number // 6}")
    (tmp_path / "tones.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "tones.csv"


def test_both_arms_start_alike_and_only_one_has_listened(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = AstEncoder(ast_config("micro", depth=1))
    save_encoder(first, tmp_path / "heard", "card")
    config = DemoConfig(init=str(tmp_path / "heard"), **SHORT)  # type: ignore[arg-type]
    out = tmp_path / "demo"
    demo(out=out, labels=tones, config=config, device="cpu")
    said = capsys.readouterr().out
    assert "12 heard without labels, 6 held out" in said
    assert "balanced accuracy from scratch" in said
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert {"from_scratch", "pretrained", "difference"} <= set(figures)
    assert "<audio" in (out / "report.html").read_text(encoding="utf-8")
    heard, scratch = load_encoder(out / "pretrain"), load_encoder(out / "from-scratch-1")
    assert heard.depth == scratch.depth == 1
    now, before = heard.state_dict(), first.state_dict()
    apart = {n: float((now[n] - before[n]).abs().max()) for n in before}
    # Two steps of listening move the weights a little; random ones are elsewhere.
    assert 0 < apart["patch_embed.proj.weight"] < 0.01
    fresh = scratch.state_dict()["patch_embed.proj.weight"]
    assert (fresh - before["patch_embed.proj.weight"]).abs().max() > 0.02


def test_an_unknown_encoder_is_a_sentence(tones: Path, tmp_path: Path) -> None:
    config = DemoConfig(init="no-such-encoder", **SHORT)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no-such-encoder"):
        demo(out=tmp_path / "demo", labels=tones, config=config, device="cpu")
