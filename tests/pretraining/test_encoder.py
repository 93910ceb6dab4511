"""What a pretraining run trains: a new encoder, or a checkpoint's at another length or stride."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from sonoformer.audio import write
from sonoformer.data.dataset import collate
from sonoformer.encoders import AstEncoder, ast_config, save_encoder, with_stride, with_table
from sonoformer.errors import UserError
from sonoformer.pretraining.config import PretrainConfig
from sonoformer.pretraining.pretrain import Prepared, prepare
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.training import TrainConfig

RATE = 16000
Begin = Callable[..., Prepared]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Prepare a run on noise of the given lengths in seconds; what it says goes to `lines`."""

    def prepared(init: AstEncoder | None, *, seconds: tuple[float, ...], **options: object):  # type: ignore[no-untyped-def]
        rng = np.random.default_rng(0)
        for number, length in enumerate(seconds):
            sound = rng.normal(0, 0.1, round(length * RATE)).astype(np.float32)
            write(tmp_path / "pool" / f"{number}.wav", sound, RATE)
        if init is not None:
            save_encoder(init, tmp_path / "before", "card")
        train = TrainConfig(steps=1, batch_size=2, workers=0, precision="fp32")
        config = PretrainConfig(**{"size": "micro", "holdout": 0.0, "train": train, **options})
        with Run.start(tmp_path / "run", "pretrain", config, 0, overwrite=True) as run:
            prepared.lines = []  # type: ignore[attr-defined]
            run.echo = prepared.lines.append  # type: ignore[attr-defined]
            before = None if init is None else tmp_path / "before"
            return prepare([tmp_path / "pool"], config, run, seed=0, init=before)

    return prepared


def ten_seconds(tokens: str = "patch", **changes: object) -> AstEncoder:
    torch.manual_seed(1)
    return AstEncoder(ast_config(dim=16, heads=1, depth=1, tokens=tokens, **changes))  # type: ignore[arg-type]


def trained(ready: Prepared) -> AstEncoder:
    return cast(AstEncoder, ready.learner.encoder)


def learns(ready: Prepared) -> bool:
    """Whether a step has a finite loss, and every position of the longest clip a gradient."""
    draws = ready.train.order.batch(0)
    batch = collate([ready.train.dataset[draw] for draw in draws]).prepared()
    loss, _ = ready.learner.loss(batch)
    loss.backward()
    encoder = trained(ready)
    grid = encoder.patches(*encoder.front(batch.wave, batch.lengths)).grid
    assert encoder.pos_embed.grad is not None
    table = encoder.pos_embed.grad[0, encoder.config.prefix :].unflatten(0, encoder.config.table)
    return bool(loss.isfinite() and table[: grid[0], : grid[1]].any(-1).all())


@pytest.mark.parametrize(
    ("tokens", "seconds", "table"),
    [
        ("patch", 20.0, (8, 124)),
        ("patch", 2.0, (8, 64)),
        ("frame", 20.0, (1, 999)),
        ("frame", 2.0, (1, 512)),
    ],
)
def test_a_checkpoint_goes_on_at_another_length(
    begin: Begin, tokens: str, seconds: float, table: tuple[int, int]
) -> None:
    before = ten_seconds(tokens)
    ready = begin(before, seconds=(seconds, seconds), crop=seconds)
    now = trained(ready)
    assert now.config.table == table
    assert now.config.table_stride == now.config.stride == before.config.patch
    if seconds == 2.0:
        assert torch.equal(now.pos_embed, before.pos_embed)
        assert not any("table" in line for line in begin.lines)  # type: ignore[attr-defined]
    else:
        expected = with_table(before, table)
        torch.testing.assert_close(now.pos_embed, expected.pos_embed)
        assert any("stretched" in line for line in begin.lines)  # type: ignore[attr-defined]
    assert learns(ready)


@pytest.mark.parametrize(("seconds", "table"), [(10.24, (8, 63)), (2.0, (8, 63)), (20.0, (8, 124))])
def test_overlapping_patches_are_laid_side_by_side(
    begin: Begin, seconds: float, table: tuple[int, int]
) -> None:
    # As of a fine-tuned AST: stride 10, and a table learned so.
    before = ten_seconds(stride=(10, 10), table=(12, 101), table_stride=(10, 10))
    ready = begin(before, seconds=(seconds, seconds), crop=seconds)
    now = trained(ready)
    assert now.config.stride == now.config.table_stride == (16, 16)
    assert now.config.table == table
    assert any("overlap" in line for line in begin.lines)  # type: ignore[attr-defined]
    if seconds <= 10.24:
        # The same hertz and seconds have the same positions.
        torch.testing.assert_close(
            now.position_table((8, 63)), with_stride(before, (16, 16)).position_table((8, 63))
        )
        assert any("by place" in line for line in begin.lines)  # type: ignore[attr-defined]
    assert learns(ready)


def test_a_stride_of_fine_tuning_goes_back_to_the_table_it_was_pretrained_with(
    begin: Begin,
) -> None:
    before = with_stride(ten_seconds("frame"), (128, 1))
    now = trained(begin(before, seconds=(1.0,), crop=1.0))
    assert now.config.stride == (128, 2)
    assert torch.equal(now.pos_embed, before.pos_embed)


@pytest.mark.parametrize(("crop", "table"), [(20.0, (8, 124)), (5.0, (8, 31))])
def test_a_new_encoder_has_a_position_for_every_token(
    begin: Begin, crop: float, table: tuple[int, int]
) -> None:
    assert begin(None, seconds=(crop,), crop=crop).learner.encoder.config.table == table


def test_a_checkpoint_hears_with_the_padding_and_statistics_of_the_run(begin: Begin) -> None:
    own = FbankConfig(mean=-5.0, std=3.0, fixed_frames=1024, padding="reference", low_hz=50.0)
    before = ten_seconds(front=own)
    kept = begin(before, seconds=(1.0,), statistics="keep").learner.encoder.config.front
    assert (kept.padding, kept.fixed_frames) == ("mask", None)
    assert (kept.mean, kept.std, kept.low_hz) == (-5.0, 3.0, 50.0)
    assert any("fixed_frames 1024 becomes None" in line for line in begin.lines)  # type: ignore[attr-defined]
    given = FbankConfig(fixed_frames=200, padding="reference", mean=-4.0, level="equal")
    ready = begin(before, seconds=(1.0,), crop=2.0, statistics="keep", front=given)
    now = ready.learner.encoder.config.front
    assert (now.padding, now.fixed_frames, now.level) == ("reference", 200, "equal")
    assert (now.mean, now.std, now.low_hz) == (-4.0, 3.0, 50.0)
    measured = begin(before, seconds=(1.0,), front=given, crop=2.0).learner.encoder.config.front
    assert measured.mean != -4.0
    assert measured.fixed_frames == 200


def test_another_filterbank_than_the_checkpoints_is_refused(begin: Begin) -> None:
    with pytest.raises(UserError, match=r"front\.n_mels: .*before has learned with 128"):
        begin(ten_seconds(), seconds=(1.0,), front=FbankConfig(n_mels=64))


def test_only_the_first_seconds_of_a_recording_are_heard(begin: Begin) -> None:
    ready = begin(None, seconds=(3.0, 0.5), crop=1.0, crops="first")
    dataset, order = ready.train.dataset, ready.train.order
    assert sorted(dataset.lengths.tolist()) == [RATE // 2, RATE]
    epochs = [{draw.index: dataset[draw].wave for draw in order.batch(step)} for step in range(3)]
    for later in epochs[1:]:
        for index, wave in epochs[0].items():
            np.testing.assert_array_equal(later[index], wave)
    assert ready.hours == pytest.approx(1.5 / 3600)


def test_clips_of_fixed_length_come_in_plain_random_order(begin: Begin) -> None:
    front = FbankConfig(fixed_frames=100)
    ready = begin(None, seconds=(1.0, 0.5), crop=1.0, front=front)
    assert ready.train.order.lengths is None
    with pytest.raises(UserError, match=r"crop, fixed_frames"):
        PretrainConfig(crop=2.0, front=front)
