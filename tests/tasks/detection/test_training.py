"""Training a detector: from a table of marks to events with the right ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.tasks.detection.conftest import MakeRecordings, marked

from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.finetune import Finetuned, finetune
from sonoformer.tasks.model import load_model

Make, Start = Callable[..., FinetuneConfig], Callable[..., Run]


def do(
    manifest: Manifest, init: object, config: FinetuneConfig, run: Run, **options: object
) -> Finetuned:
    with run:
        return finetune(manifest, init, config, run, device="cpu", bar=False, **options)  # type: ignore[arg-type]


def test_tones_are_found_where_they_are(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start
) -> None:
    table = make_recordings(12)
    settings = config(epochs=14, validation=0.2, test=0.2)
    done = do(marked(table), encoder, settings, start(settings))
    assert done.card is not None
    assert done.card.figures["mAP"].value > 0.95
