"""What a pretraining run is made of: which recordings it hears, how often, and which it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonoformer.audio import write
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.pretraining.listening import sets_heard
from sonoformer.pretraining.pretrain import Prepared, PretrainConfig, cost, prepare
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.training import TrainConfig

RATE = 8000
FRONT = FbankConfig(sample_rate=RATE, n_mels=64)


@pytest.fixture
def sounds(tmp_path: Path) -> Callable[..., Path]:
    """A folder of noises: {"site/name": seconds}."""

    def make(**seconds: float) -> Path:
        rng = np.random.default_rng(0)
        for name, length in seconds.items():
            path = tmp_path / "pool" / f"{name.replace('__', '/')}.wav"
            write(path, rng.normal(0, 0.1, round(length * RATE)).astype(np.float32), RATE)
        return tmp_path / "pool"

    return make


def ready(pool: Path, tmp_path: Path, **options: object) -> Prepared:
    exclude = options.pop("exclude", ())
    train = TrainConfig(steps=2, batch_size=2, workers=0, precision="fp32")
    defaults = {"size": "micro", "crop": 1.0, "front": FRONT, "train": train}
    config = PretrainConfig(**(defaults | options))  # type: ignore[arg-type]
    with Run.start(tmp_path / "run", "pretrain", config, 0, overwrite=True) as run:
        return prepare([pool], config, run, seed=0, exclude=exclude)  # type: ignore[arg-type]


@pytest.mark.parametrize("holdout", [0.0, 0.5, 0.99])
def test_one_recording_is_trained_on_whatever_the_holdout(
    sounds: Callable[..., Path], tmp_path: Path, holdout: float
) -> None:
    got = ready(sounds(only=0.5), tmp_path, holdout=holdout)
    assert len(got.train.dataset) == 1
    assert got.validation is None


@pytest.mark.parametrize(("holdout", "apart"), [(0.0, 0), (0.001, 1), (0.999, 0)])
def test_two_recordings_are_one_to_learn_from_and_one_apart(
    sounds: Callable[..., Path], tmp_path: Path, holdout: float, apart: int
) -> None:
    got = ready(sounds(a=0.5, b=0.5), tmp_path, holdout=holdout)
    assert len(got.train.dataset) == 2 - apart
    assert (got.validation is not None) == bool(apart)


def test_no_recording_is_on_both_sides(sounds: Callable[..., Path], tmp_path: Path) -> None:
    pool = sounds(**{f"x{n}": 2.5 for n in range(20)})
    got = ready(pool, tmp_path, holdout=0.3, holdout_most=5)
    source = got.train.dataset.source
    heard = {source.name(i) for i in range(len(source))}
    assert got.validation is not None
    apart = got.validation.dataset.source
    tested = {apart.name(i) for i in range(len(apart))}
    assert heard & tested == set()
    assert len(heard | tested) == 20
    judged = min(5, len(apart))  # which files are held out goes by their paths
    assert sum(len(batch) for batch in got.validation) == judged
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert f"validating on {judged} clips of the {len(tested)} files held out" in log
    # Long recordings come as pieces, so that an epoch hears all of them.
    assert len(source) == 2 * len(heard)
    assert got.hours == pytest.approx(len(heard) * 2.5 / 3600)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.9), (0.5, 0.75), (1.0, 0.5)])
def test_sources_are_evened_out(
    sounds: Callable[..., Path], tmp_path: Path, balance: float, share: float
) -> None:
    names = {f"big__{n}": 0.3 for n in range(18)} | {f"small__{n}": 0.3 for n in range(2)}
    got = ready(sounds(**names), tmp_path, holdout=0.0, balance=balance)
    source, order = got.train.dataset.source, got.train.order
    steps = range(100 * order.steps_per_epoch)
    rows = [draw.index for step in steps for draw in order.batch(step)]
    big = np.mean(["/big/" in source.name(row) for row in rows])
    assert big == pytest.approx(share, abs=0.04)


def test_the_manifests_weights_draw_recordings_whatever_their_length(
    sounds: Callable[..., Path], tmp_path: Path
) -> None:
    pool = sounds(long=6.0, short=0.3, other=0.4)
    table = tmp_path / "pool.csv"
    table.write_text("path,weight\npool/long.wav,2\npool/short.wav,1\npool/other.wav,1\n")
    got = ready(table, tmp_path, holdout=0.0, weights="manifest")
    source, order = got.train.dataset.source, got.train.order
    assert len(source) == 8  # the long one in pieces
    rows = [d.index for s in range(200 * order.steps_per_epoch) for d in order.batch(s)]
    shares = [np.mean([name in source.name(row) for row in rows]) for name in ("long", "short")]
    assert shares == pytest.approx([0.5, 0.25], abs=0.04)
    with pytest.raises(UserError, match="no column weight"):
        ready(pool, tmp_path, holdout=0.0, weights="manifest")
    with pytest.raises(UserError, match="balance"):
        PretrainConfig(weights="manifest", balance=0.5)


def test_new_encoders_have_positions_for_their_clips_alone(
    sounds: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = ready(sounds(a=1.5), tmp_path, crop=1.0).learner.encoder
    assert encoder.config.table == (4, 6)


def test_sets_of_the_catalogue_are_named() -> None:
    assert sets_heard(["/x/shipped-pool.csv"]) == {"sets": ["shipped-pool"], "held_out": True}
    both = sets_heard(["a/debian-pool.csv", "a/shipped-pool.csv"])
    assert both == {"sets": ["debian-pool", "shipped-pool"], "held_out": False}
    assert sets_heard(["a/shipped-pool.csv", "field/"]) is None


def test_excluded_recordings_are_not_heard(sounds: Callable[..., Path], tmp_path: Path) -> None:
    pool = sounds(a=0.3, b=0.35, c=0.4)
    copy = tmp_path / "elsewhere" / "copy.wav"
    copy.parent.mkdir()
    copy.write_bytes((pool / "b.wav").read_bytes())
    tests = Manifest.from_files([str(pool / "a.wav"), str(copy)])
    got = ready(pool, tmp_path, exclude=[tests])
    source = got.train.dataset.source
    assert [Path(source.name(i)).name for i in range(len(source))] == ["c.wav"]
    with pytest.raises(UserError, match="no usable recording"):
        ready(pool / "a.wav", tmp_path, exclude=[tests])


def test_statistics_are_those_of_the_pool(sounds: Callable[..., Path], tmp_path: Path) -> None:
    pool = sounds(a=0.5, b=0.7)
    measured = ready(pool, tmp_path).learner.encoder.config.front
    kept = ready(pool, tmp_path, statistics="keep").learner.encoder.config.front
    assert (kept.mean, kept.std) == (FRONT.mean, FRONT.std)
    assert abs(measured.mean - FRONT.mean) > 0.1


def test_a_run_is_priced_by_a_typical_batch(sounds: Callable[..., Path], tmp_path: Path) -> None:
    got = ready(sounds(**{f"x{n}": 0.2 + n / 10 for n in range(6)}), tmp_path)
    train = TrainConfig(steps=2, batch_size=2, workers=0, precision="fp32")
    config = PretrainConfig(size="micro", crop=1.0, front=FRONT, train=train)
    price = cost(got, config, "cpu")
    assert price.steps == 2
    assert price.memory > 2**20


@pytest.mark.parametrize(
    ("option", "value"),
    [("crop", 0.0), ("shortest", -1.0), ("holdout", 1.0), ("holdout_most", 0), ("balance", 1.5)],
)
def test_options_that_cannot_be_are_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match=option):
        PretrainConfig(**{option: value})  # type: ignore[arg-type]
