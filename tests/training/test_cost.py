"""The estimate of `--dry-run`."""

from __future__ import annotations

import pytest
import torch
from tests.training.conftest import Bench, Held, Toy, make_data

from sonoformer.training.config import TrainConfig
from sonoformer.training.cost import estimate


@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.9, "best": "mse"}, {"average_from": 1}], ids=["plain", "ema", "mean"]
)
def test_disk_is_what_training_writes(bench: Bench, changes: dict[str, object]) -> None:
    config = TrainConfig(epochs=1.0, batch_size=4, workers=0, **changes)
    batch = next(iter(Held(make_data())))
    found = estimate(Toy(), batch, 10, config, device="cpu")
    bench.fit("run", config)
    sizes = {p.name: p.stat().st_size for p in (bench.root / "run/checkpoints").iterdir()}
    written = 2 * sizes["last.ckpt"] + sizes.get("best.ckpt", 0)
    # Names and counters weigh some kilobytes, which only a toy notices.
    assert found.disk <= written <= found.disk + 60_000


def test_time_and_memory_of_the_whole_run_and_nothing_moved() -> None:
    toy, batch = Toy(), next(iter(Held(make_data())))
    before, state = toy.state_dict(), torch.get_rng_state()
    before = {name: value.clone() for name, value in before.items()}
    found = estimate(toy, batch, 1000, TrainConfig(accumulate=3), device="cpu")
    assert found.seconds == pytest.approx(1000 * found.seconds_per_step)
    assert found.memory > 50 * 2**20
    assert found.parameters == 64 * 16 + 16 + 16 * 4 + 4
    assert all(torch.equal(before[name], value) for name, value in toy.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert "1000 steps" in str(found)
