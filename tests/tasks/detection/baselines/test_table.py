"""A detector and its baselines in one report."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.tasks.detection.conftest import MakeRecordings, marked

from sonoformer.encoders import AstEncoder
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.compare import TITLES
from sonoformer.tasks.detection.config import EventsConfig
from sonoformer.tasks.finetune import finetune


def test_finetune_puts_them_beside_the_detector(
    make_recordings: MakeRecordings,
    encoder: AstEncoder,
    config: Callable[..., FinetuneConfig],
    start: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sonoformer.tasks.detection.baselines.learned._TREES", 10)
    settings = config(epochs=6, validation=0.25, test=0.25, events=EventsConfig(baselines=True))
    run = start(settings)
    with run:
        finetune(marked(make_recordings(8)), encoder, settings, run, device="cpu", bar=False)
    rows = read_json(run.folder / "metrics.json")["baselines"]
    assert list(rows) == list(TITLES)
    for name, row in rows.items():
        assert 0 <= row["event_f1"] <= 1, name
        assert 0.5 <= row["frame_auc"] <= 1, name
    # Energy cannot tell two tones apart, bands can.
    assert rows["energy"]["event_f1"] < rows["band"]["event_f1"]
    assert rows["band"]["frame_ap"] > 0.8
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Beside simpler systems" in report
    for title in TITLES.values():
        assert title.replace("'", "&#39;") in report
    assert (run.folder / "cnn" / "metrics.csv").is_file()
