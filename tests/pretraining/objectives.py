"""What the tests of all objectives share: sound, clips alone and padded, a run that is torn."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.test_fitting import assert_same_run, differences

from sonoformer.data.batch import Batch
from sonoformer.data.dataset import ClipDataset
from sonoformer.data.order import Order
from sonoformer.encoders import AstConfig, ast_config
from sonoformer.pretraining import Objective
from sonoformer.run import Run
from sonoformer.training import TrainConfig, TrainData, fit
from sonoformer.training.config import OptimiserConfig
from sonoformer.training.interrupts import Interrupted

SAMPLES = 16400  # give 101 frames: 6 columns of 16 frames
LENGTHS = [SAMPLES, 9000, 300, 4800]
SMALL = ast_config("micro", dim=64, depth=2)


def frames_encoder() -> AstConfig:
    """Columns of two frames for tokens, so that a clip may have a single one."""
    return ast_config("micro", "frame", dim=64, depth=2)


def some_batch(
    model: Objective, clips: int, lengths: list[int] | None = None, seed: int = 0
) -> Batch:
    """Noise, zero past each clip's length."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths or [SAMPLES] * clips)
    wave = 0.1 * torch.randn(clips, SAMPLES, generator=generator)
    wave = wave * (torch.arange(SAMPLES) < counts.unsqueeze(1))
    noise = torch.rand(clips, model.noise, generator=generator)
    return Batch(wave[:, : int(counts.max())], counts, torch.arange(clips), noise=noise)


def part(batch: Batch, clip: int) -> Batch:
    """One clip of a batch, without padding."""
    one = slice(clip, clip + 1)
    length = int(batch.lengths[clip])
    return Batch(
        batch.wave[one, :length], batch.lengths[one], batch.index[one], noise=batch.noise[one]
    )


@torch.no_grad()
def assert_padding_changes_nothing(model: Objective, lengths: list[int], terms: set[str]) -> None:
    """Terms of clips alone, averaged, are those of the padded batch."""
    batch = some_batch(model, len(lengths), lengths)
    together = model.terms_of(batch)
    alone = [model.terms_of(part(batch, clip)) for clip in range(len(lengths))]
    for name in terms:
        mean = torch.stack([one[name] for one in alone]).mean()
        assert together[name].item() == pytest.approx(mean.item(), abs=1e-5), name


def fades(model: Objective, seed: int, clips: int = 8) -> Batch:
    """Noise that grows or fades steadily: what is hidden follows from what is shown."""
    batch = some_batch(model, clips, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    level, slope = torch.rand(2, clips, 1, generator=generator)
    place = torch.linspace(-0.5, 0.5, SAMPLES)
    batch.wave *= torch.exp(4 * level - 4 + (10 * slope - 5) * place)
    return batch


def assert_it_learns(model: Objective, share: float, steps: int = 30, rate: float = 2e-3) -> None:
    """On `fades`, the loss falls below `share` of what it was."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)

    def score() -> float:
        total, count = model.evaluate(fades(model, 10**6, 16))["loss"]
        return float(total / count)

    before = score()
    for step in range(steps):
        optimiser.zero_grad()
        model.loss(fades(model, step))[0].backward()
        optimiser.step()
        model.end_step(step, steps)
    assert score() < share * before


class Clips:
    """A clip source in memory."""

    sample_rate = 16000
    lengths = np.full(6, 4000)

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        sound = 0.1 * np.random.default_rng(index).standard_normal(4000, dtype=np.float32)
        return sound[start : start + count]

    def name(self, index: int) -> str:
        return f"clip{index}.wav"


def assert_resumed_is_the_same(make: Callable[[], Objective], root: Path) -> None:
    """A run that is torn in the middle ends as one that is not: files, weights, to the bit."""
    config = TrainConfig(
        steps=5,
        batch_size=2,
        workers=0,
        precision="fp32",
        log_every=2,
        optimiser=OptimiserConfig(name="adamw", lr=1e-3, weight_decay=0.05, clip=3.0),
    )

    def run(name: str, model: Objective, resume: bool = False) -> Objective:
        clips = ClipDataset(Clips(), crop=4000, seed=1, train=True, noise=model.noise)
        data = TrainData(clips, Order(len(clips), batch_size=2, seed=1))
        with Run.start(root / name, "pretrain", config, 1, resume=resume) as folder:
            folder.echo = None
            fit(model, data, None, config, folder, seed=1, device="cpu", resume=resume)
        return model

    def torn() -> Objective:
        model, seen = make(), []
        whole = model.terms_of

        def terms_of(batch: Batch) -> dict[str, torch.Tensor]:
            seen.append(batch)
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return whole(batch)

        model.terms_of = terms_of  # type: ignore[method-assign]
        return model

    one = run("whole", make())
    with pytest.raises(Interrupted, match="after step 3 of 5"):
        run("torn", torn())
    other = run("torn", make(), resume=True)
    assert differences(one.state_dict(), other.state_dict()) == []
    assert_same_run(root / "whole", root / "torn")
