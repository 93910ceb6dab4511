"""Heads that start as a probe, and what augmentation makes of what they know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sonoformer.data.augment import AugmentConfig
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder
from sonoformer.evaluation.linear import ProbeConfig
from sonoformer.run import Run
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune

LABELS = ["low", "mid", "high"] * 8
STRANGE = "augmented clips are strange to that head"


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        (AugmentConfig(), False),
        (AugmentConfig(gain_db=0.01), False),
        (AugmentConfig(freq_mask=1000, mask_value=5.0), True),
    ],
)
def test_augmentation_that_undoes_a_probe_is_told_of(
    augment: AugmentConfig,
    told: bool,
    make_set: Callable[..., Manifest],
    encoder: AstEncoder,
    config: Callable[..., FinetuneConfig],
    start: Callable[..., Run],
    tmp_path: Path,
) -> None:
    settings = config(
        epochs=1,
        test=0.25,
        augment=augment,
        classifier=ClassifierConfig(head="probe"),
        probe=ProbeConfig((0.01,)),
    )
    with start(settings) as run:
        finetune(
            make_set(LABELS), encoder, settings, run,
            device="cpu", bar=False, cache=tmp_path / "cache",
        )  # fmt: skip
    log = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert "the head starts as a probe: penalty 0.01" in log
    assert (STRANGE in log) == told
    assert not told or "that of guessing 1.10" in log
