"""The encoder that a fine-tuning starts from, and what of a clip it is given to hear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sonoformer.data.augment import AugmentConfig
from sonoformer.data.batch import Batch
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder, with_config, with_stride
from sonoformer.errors import UserError
from sonoformer.nn.positions import by_reference
from sonoformer.run import Run
from sonoformer.tasks.classification import Classifier
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune
from sonoformer.tasks.model import Model
from sonoformer.tasks.start import make_encoder

Make = Callable[..., FinetuneConfig]
MakeSet = Callable[..., Manifest]
Start = Callable[..., Run]


def test_options_lie_over_the_checkpoints_own(encoder: AstEncoder, config: Make) -> None:
    reference = config(positions="reference", padding="reference", fixed_frames=200)
    made = make_encoder(encoder, reference, 0)
    front = made.config.front
    assert (made.config.positions, front.padding, front.fixed_frames) == (
        "reference", "reference", 200,
    )  # fmt: skip
    kept = make_encoder(made, config(), 0)
    assert kept.config == made.config
    back = make_encoder(made, config(positions="seconds", padding="mask", fixed_frames=0), 0)
    front = back.config.front
    assert (back.config.positions, front.padding, front.fixed_frames) == ("seconds", "mask", None)


def test_by_the_authors_rule_a_table_of_the_new_size_is_learned(
    encoder: AstEncoder, config: Make
) -> None:
    options = {"stride": (4, 4), "positions": "reference"}
    made = make_encoder(encoder, config(fixed_frames=100, **options), 0)
    assert made.config.table == (3, 24)  # (16 - 8) / 4 + 1 rows, (100 - 8) / 4 + 1 columns
    assert made.config.table_stride == (4, 4)
    own = encoder.pos_embed[0, 2:].T.reshape(16, 2, 8)
    torch.testing.assert_close(made.position_table((3, 24)), by_reference(own, (3, 24)))
    # The numbers are those of the same rule read from the old table at each step.
    read = with_config(with_stride(encoder, (4, 4)), positions="reference", front=made.config.front)
    wave = torch.randn(2, 8000) * 0.1
    with torch.no_grad():
        torch.testing.assert_close(made.eval()(wave).x, read.eval()(wave).x)
    # Without a fixed length there is no size for it to have.
    assert make_encoder(encoder, config(**options), 0).config.table == (2, 8)


def test_clips_past_the_tables_end_get_cells_to_learn_in(encoder: AstEncoder, config: Make) -> None:
    assert make_encoder(encoder, config(seconds=0.5), 0).config.table == (2, 8)
    made = make_encoder(encoder, config(seconds=2.0), 0)
    assert made.config.table == (2, (198 - 8) // 8 + 1)
    wave = torch.randn(2, 16000) * 0.1
    with torch.no_grad():
        torch.testing.assert_close(made.eval()(wave).x, encoder.eval()(wave).x)
    assert make_encoder(made, config(seconds=0.5), 0).config.table == made.config.table


def test_what_would_not_be_heard_is_refused(encoder: AstEncoder, config: Make) -> None:
    with pytest.raises(UserError, match=r"seconds, fixed_frames: 1 s are 98 frames"):
        make_encoder(encoder, config(fixed_frames=40), 0)
    with pytest.raises(UserError, match="fixed_frames"):
        config(fixed_frames=-1)


def test_only_the_first_seconds_are_trained_on_validated_and_tested(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    labels = ["low", "mid", "high"] * 4
    split = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    settings = config(epochs=2, crops="first", seconds=0.4, protocol="split")
    found = []
    for seconds in (0.4, 1.0):  # the longer tones begin with the shorter ones
        manifest = make_set(labels, seconds=seconds, split=split)
        run = start(settings, f"run{seconds}")
        with run:
            result = finetune(manifest, encoder, settings, run, seed=0, device="cpu", bar=False)
        model = (run.folder / "model" / "model.safetensors").read_bytes()
        curves = (run.folder / "metrics.csv").read_text().splitlines()
        kept = [name for name in curves[0].split(",") if "loss" in name]
        columns = [curves[0].split(",").index(name) for name in kept]
        values = [[line.split(",")[i] for i in columns] for line in curves[1:]]
        found.append((result.answers[0].scores, model, values))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][2] == found[1][2]


def test_reference_masks_hold_what_the_front_end_makes_of_a_log_mel_of_zero(
    encoder: AstEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AugmentConfig(freq_mask=16, time_mask=30, masks="reference")
    learner = Classifier(Model(encoder, ("a", "b")), augment=config).train()
    seen: list[torch.Tensor] = []

    def watched(spec: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        seen.append(spec)
        return torch.zeros(len(spec), 2)

    monkeypatch.setattr(learner.model, "logits", watched)
    wave, draws = torch.randn(4, 4000) * 0.1, torch.full((4, 8), 0.5)
    batch = Batch(wave, torch.full((4,), 4000), torch.arange(4), draws=draws)
    learner.logits(batch)
    zero = encoder.front_end.raw_zero
    assert zero == pytest.approx(1.0)  # mean -8, std 4
    masked = (seen[0] == zero)[0]
    assert masked.all(1).sum() == 15
    assert masked.all(0).sum() == 8
