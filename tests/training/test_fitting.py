"""`fit`: what a run leaves, what it refuses, and that stopping it changes nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import Bench, Held, Toy, make_data

from sonoformer.errors import UserError
from sonoformer.training.checkpoints import read_checkpoint
from sonoformer.training.config import OptimiserConfig, ScheduleConfig, TrainConfig
from sonoformer.training.interrupts import Interrupted
from sonoformer.training.validation import evaluate

PLAIN = TrainConfig(
    epochs=4.0,
    batch_size=4,
    workers=0,
    log_every=3,
    checkpoint_minutes=0.0,
    optimiser=OptimiserConfig(lr=0.01, clip=1.0),
)
# Everything that remembers something: accumulation across epoch ends, both moments, moving
# average, plateau, warm-up, best weights.
RICH = TrainConfig(
    epochs=6.0,
    batch_size=4,
    accumulate=3,
    workers=0,
    log_every=3,
    validate_every=5,
    checkpoint_minutes=0.0,
    ema=0.9,
    best="mse",
    best_mode="min",
    optimiser=OptimiserConfig(name="adam", lr=0.01, weight_decay=1e-4, clip=0.5),
    schedule=ScheduleConfig(name="plateau", monitor="mse", mode="max", patience=0, warmup_steps=4),
)
AVERAGED = TrainConfig(
    epochs=5.0,
    batch_size=4,
    accumulate=2,
    workers=0,
    average_from=2,
    average_to=4,
    checkpoint_minutes=0.0,
    optimiser=OptimiserConfig(name="sgd", lr=0.05),
    schedule=ScheduleConfig(name="cosine", warmup_steps=3, warmup="reference"),
)
CONFIGS = {"plain": PLAIN, "rich": RICH, "averaged": AVERAGED}


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Every place where two checkpoints differ, to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        return [] if same else [where]
    if isinstance(a, dict) and isinstance(b, dict):
        found = [f"{where}/{key}" for key in set(a) ^ set(b)]
        return found + [d for k in set(a) & set(b) for d in differences(a[k], b[k], f"{where}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f"{where}/{i}")]
    return [] if a == b else [f"{where}: {a!r} != {b!r}"]


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    files = sorted(path.name for path in (one / "checkpoints").iterdir())
    assert files == sorted(path.name for path in (other / "checkpoints").iterdir())
    for name in files:
        a, b = (read_checkpoint(folder / "checkpoints" / name) for folder in (one, other))
        assert differences(a, b) == []


# What a run leaves


@pytest.mark.usefixtures("drawing")
def test_learns_and_leaves_curves_and_checkpoint(bench: Bench, tmp_path: Path) -> None:
    result = bench.fit("run", PLAIN)
    assert result.steps == 40
    losses = [row["train/loss"] for row in result.history if "train/loss" in row]
    assert losses[-1] < losses[0]
    assert result.final["mse"] == result.history[-1]["valid/mse"]
    folder = tmp_path / "run"
    assert read_checkpoint(folder / "checkpoints/last.ckpt")["global_step"] == 40
    assert (folder / "curves.png").stat().st_size > 1000
    assert result.seconds > 0
    assert 0 <= result.wait_share < 1
    log = (folder / "log.txt").read_text()
    assert log.count("valid/mse") == 4
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["checkpoints"]


def test_rows_come_every_few_steps_and_at_each_validation(bench: Bench) -> None:
    history = bench.fit("run", PLAIN).history
    expected = {s for s in range(1, 41) if s % 3 == 0} | {10, 20, 30, 40}
    assert [row["step"] for row in history] == sorted(expected - {39, 30} | {30, 39})
    assert [row["step"] for row in history if "valid/mse" in row] == [10, 20, 30, 40]


def test_is_silent_but_for_one_line_a_validation(
    bench: Bench, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    bench.fit("run", PLAIN)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert [str(w.message) for w in recwarn if "lightning" in str(w.filename)] == []


def test_a_row_is_the_mean_of_its_steps(bench: Bench) -> None:
    """A rate too small to move anything leaves losses that can be computed beside it."""
    frozen = TrainConfig(
        steps=4, batch_size=4, workers=0, log_every=4, precision="fp32",
        optimiser=OptimiserConfig(lr=1e-30),
    )  # fmt: skip
    toy = Toy()
    toy.encoder.layers[2].p = 0.0
    result = bench.fit("run", frozen, toy)
    assert "training on cpu in fp32" in (bench.root / "run/log.txt").read_text()
    losses = [toy.loss(batch)[0] for batch in Held(make_data(), 4)]
    mean = torch.stack(losses).double().mean().item()
    assert result.history[-1]["train/loss"] == pytest.approx(mean, rel=1e-6)
    assert result.history[-1]["train/twice"] == pytest.approx(2 * mean, rel=1e-6)


def test_accumulation_is_one_larger_batch(bench: Bench) -> None:
    """Without dropout, three passes of 4 clips give the step of one pass of 12."""
    weights = []
    for batch, accumulate in ((12, 1), (4, 3)):
        config = TrainConfig(
            steps=3, batch_size=batch, accumulate=accumulate, workers=0, precision="fp32",
            optimiser=OptimiserConfig(name="sgd", lr=0.1),
        )  # fmt: skip
        toy = Toy()
        toy.encoder.layers[2].p = 0.0
        bench.fit(f"run{batch}", config, toy, data=make_data(batch_size=batch))
        weights.append(toy.encoder.layers[0].weight.detach().clone())
    assert not torch.equal(weights[0], Toy().encoder.layers[0].weight)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_and_their_length_is_logged(bench: Bench) -> None:
    config = TrainConfig(
        steps=1, batch_size=4, workers=0, optimiser=OptimiserConfig(name="sgd", lr=1.0, clip=0.01)
    )
    toy, before = Toy(), Toy()
    result = bench.fit("run", config, toy)
    moved = [a - b for a, b in zip(toy.parameters(), before.parameters(), strict=True)]
    assert torch.nn.utils.get_total_norm(moved).item() == pytest.approx(0.01, rel=1e-4)
    assert result.history[0]["train/grad_norm"] > 0.01


@pytest.mark.parametrize("kind", ["ema", "average", "best"])
def test_gives_back_the_chosen_weights(bench: Bench, kind: str) -> None:
    seen: list[torch.Tensor] = []
    toy = Toy()
    toy.at = lambda count: seen.append(toy.encoder.layers[0].weight.detach().clone())
    common = {"epochs": 3.0, "batch_size": 4, "workers": 0, "precision": "fp32"}
    optimiser = OptimiserConfig(lr=0.01)
    if kind == "ema":
        config = TrainConfig(**common, ema=0.5, optimiser=optimiser)
    elif kind == "average":
        config = TrainConfig(**common, average_from=1, average_to=2, optimiser=optimiser)
    else:
        # `clips` is the same at each validation, so the first stays the best.
        config = TrainConfig(**common, best="clips", optimiser=optimiser)
    result = bench.fit("run", config, toy)
    given = toy.encoder.layers[0].weight.detach()
    if kind == "average":
        torch.testing.assert_close(given, (seen[10] + seen[20]) / 2)
    elif kind == "best":
        assert result.best == {"step": 10, "value": 4.0}
        assert torch.equal(given, seen[10])
    else:
        last = read_checkpoint(bench.root / "run/checkpoints/last.ckpt")
        average = seen[0]
        for weight in [*seen[1:], last["state_dict"]["learner.encoder.layers.0.weight"]]:
            average = average.lerp(weight, 0.5)
        torch.testing.assert_close(given, average)
    held = Held(make_data(train=False))
    assert result.final == evaluate(toy, held, torch.device("cpu"))


def test_the_rate_follows_the_schedule(bench: Bench) -> None:
    config = TrainConfig(
        epochs=4.0, batch_size=4, workers=0, log_every=1,
        optimiser=OptimiserConfig(lr=0.01),
        schedule=ScheduleConfig(name="step", milestones=(1, 3), factor=0.1, warmup_steps=2),
    )  # fmt: skip
    rates = [row["lr"] for row in bench.fit("run", config).history]
    assert rates == pytest.approx([0.005] + [0.01] * 9 + [0.001] * 20 + [0.0001] * 10)


# Validation


def test_validation_does_not_move_training(bench: Bench) -> None:
    """Neither its place, nor its number, nor random numbers drawn inside it."""
    weights = []
    for name, every, held in (("none", 3, False), ("often", 3, True), ("seldom", 20, True)):
        config = TrainConfig(epochs=3.0, batch_size=4, workers=0, validate_every=every)
        toy = Toy()
        toy.during_validation = lambda: torch.rand(7)
        bench.fit(name, config, toy, validation=held)
        weights.append(list(toy.state_dict().values()))
    for other in weights[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights[0], other, strict=True))


def test_evaluate_weighs_by_count_and_restores_everything() -> None:
    data, toy = make_data(train=False), Toy()
    toy.train()
    toy.encoder.layers[0].eval()  # as a frozen part would be
    modes = [part.training for part in toy.modules()]
    state = torch.get_rng_state()
    found = evaluate(toy, Held(data, 5), torch.device("cpu"))
    assert torch.equal(state, torch.get_rng_state())
    assert [part.training for part in toy.modules()] == modes
    toy.eval()
    pairs = [toy.evaluate(batch)["mse"] for batch in Held(data, 5)]
    expected = sum(e.item() for e, _ in pairs) / sum(n.item() for _, n in pairs)
    assert found["mse"] == pytest.approx(expected, rel=1e-6)
    assert evaluate(toy, [], torch.device("cpu")) == {}


# What it refuses


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(bench: Bench, where: str) -> None:
    toy = Toy()
    if where == "loss":
        toy.at = lambda count: float("nan") if count == 17 else None
    else:
        hook = toy.encoder.layers[0].weight.register_hook
        hook(lambda grad: grad * float("inf") if toy.count == 18 else None)
    with pytest.raises(UserError, match=r"step 18;.*\(data rows \d+ noise\d+\.wav, \d+ "):
        bench.fit("run", PLAIN, toy)
    last = read_checkpoint(bench.root / "run/checkpoints/last.ckpt")
    assert last["global_step"] == 17
    assert all(torch.isfinite(t).all() for t in last["state_dict"].values())
    assert "not a finite number" in (bench.root / "run/log.txt").read_text()
    result = bench.fit("run", PLAIN, Toy(), resume=True)
    assert result.steps == 40


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (TrainConfig(best="accuracy", batch_size=4, workers=0, epochs=1.0), "best: .*'accuracy'"),
        (TrainConfig(average_from=9, epochs=3.0, batch_size=4), "average_from"),
    ],
)
def test_options_that_cannot_work_are_refused(
    bench: Bench, config: TrainConfig, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        bench.fit("run", config)


def test_metrics_need_validation_data(bench: Bench) -> None:
    with pytest.raises(UserError, match="best: needs validation data"):
        bench.fit("run", TrainConfig(best="mse", batch_size=4), validation=False)


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", "quantum"])
def test_a_device_that_is_not_there(bench: Bench, device: str) -> None:
    with pytest.raises(UserError, match="--device"):
        bench.fit("run", PLAIN, device=device)


# Stopping and resuming


def test_a_finished_run_resumes_to_itself(bench: Bench) -> None:
    toy, again = Toy(), Toy()
    first = bench.fit("run", RICH, toy)
    before = {p.name: p.read_bytes() for p in (bench.root / "run/checkpoints").iterdir()}
    second = bench.fit("run", RICH, again, resume=True)
    assert (second.steps, second.best, second.final) == (first.steps, first.best, first.final)
    assert second.history == first.history
    assert differences(toy.state_dict(), again.state_dict()) == []
    assert before == {p.name: p.read_bytes() for p in (bench.root / "run/checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("kind", "number"),
    [("plain", signal.SIGINT), ("rich", signal.SIGTERM), ("averaged", signal.SIGINT)],
)
def test_stopped_at_any_step_and_resumed_is_bit_for_bit_the_same(
    bench: Bench, kind: str, number: int
) -> None:
    """Three stops at random losses, in the middle of epochs, accumulation and rows."""
    config, chance = CONFIGS[kind], random.Random(f"{kind} {number}")
    bench.fit("whole", config)
    for attempt in range(3):
        toy, when = Toy(), chance.randrange(1, 9)
        toy.at = lambda count, when=when: count == when and os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match="--resume") as stopped:
            bench.fit("torn", config, toy, resume=attempt > 0)
        assert stopped.value.exit_code == 128 + number
    bench.fit("torn", config, resume=True)
    assert_same_run(bench.root / "whole", bench.root / "torn")


def test_stopped_while_validating(bench: Bench) -> None:
    """The validation that was cut short is made up for before the next step."""
    whole = Toy()
    bench.fit("whole", RICH, whole)
    toy = Toy()
    calls: list[int] = []

    def press() -> None:
        calls.append(1)
        if len(calls) == 4:  # in the second validation
            os.kill(os.getpid(), signal.SIGINT)

    toy.during_validation = press
    with pytest.raises(Interrupted, match="after step 10 of 20"):
        bench.fit("torn", RICH, toy)
    state = json.loads((bench.root / "torn/run.json").read_text())
    assert state["status"] == "interrupted"
    bench.fit("torn", RICH, Toy(), resume=True)
    assert_same_run(bench.root / "whole", bench.root / "torn")


def test_a_second_ctrl_c_stops_at_once_and_resumes(bench: Bench) -> None:
    bench.fit("whole", PLAIN)
    toy = Toy()

    def press_twice(count: int) -> None:
        if count == 13:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    toy.at = press_twice
    with pytest.raises(Interrupted, match="without waiting"):
        bench.fit("torn", PLAIN, toy)
    assert read_checkpoint(bench.root / "torn/checkpoints/last.ckpt")["global_step"] == 13
    bench.fit("torn", PLAIN, Toy(), resume=True)
    assert_same_run(bench.root / "whole", bench.root / "torn")


@pytest.mark.parametrize("kind", ["plain", "rich"])
def test_killed_and_resumed_is_bit_for_bit_the_same(bench: Bench, kind: str) -> None:
    """SIGKILL at random places: inside a loss, and while a checkpoint is being written."""
    config, chance = CONFIGS[kind], random.Random(kind)
    bench.fit("whole", config)
    for attempt in range(4):
        spare = chance.randrange(2, 14)
        process = multiprocessing.get_context("fork").Process(
            target=_fit_and_die, args=(bench, config, attempt > 0, spare, attempt % 2 == 1)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    bench.fit("torn", config, Toy(), resume=True)
    assert_same_run(bench.root / "whole", bench.root / "torn")


def _fit_and_die(bench: Bench, config: TrainConfig, resume: bool, spare: int, saving: bool) -> None:
    toy = Toy()
    if saving:
        # Half a checkpoint is on the disk when the process dies.
        import sonoformer.training.checkpoints as checkpoints

        whole, left = torch.save, [min(spare, 3)]

        def half(value: Any, file: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                file.write(b"half a checkpoint")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            whole(value, file)

        checkpoints.torch.save = half  # type: ignore[assignment]
    else:
        toy.at = lambda count: count == spare and os.kill(os.getpid(), signal.SIGKILL)
    bench.fit("torn", config, toy, resume=resume)


def test_resume_without_a_checkpoint_starts_over(bench: Bench) -> None:
    toy = Toy(at=lambda count: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.fit("run", PLAIN, toy)
    assert bench.fit("run", PLAIN, resume=True).steps == 40
    assert "no checkpoint was written yet" in (bench.root / "run/log.txt").read_text()


def test_resume_refuses_other_data_and_damaged_files(bench: Bench) -> None:
    bench.fit("run", PLAIN)
    with pytest.raises(UserError, match="batches_per_epoch was 10, is 8"):
        bench.fit("run", PLAIN, resume=True, data=make_data(batch_size=5))
    path = bench.root / "run/checkpoints/last.ckpt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        bench.fit("run", PLAIN, resume=True)


def test_resume_refuses_a_shorter_run(bench: Bench) -> None:
    bench.fit("run", PLAIN)
    with pytest.raises(UserError, match="steps: the run already did 40, more than the 20"):
        bench.fit("run", TrainConfig(**{**vars(PLAIN), "epochs": 2.0}), resume=True)


def test_the_encoder_is_compiled_for_training_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compile_(function: Any) -> Any:
        return lambda *args: calls.append(1) or function(*args)

    monkeypatch.setattr(torch, "compile", compile_)
    toy, plain = Toy(), Toy()
    bench.fit("compiled", TrainConfig(**{**vars(PLAIN), "compile": True}), toy)
    assert len(calls) == 40 + 4 * 3
    assert "forward" not in vars(toy.encoder)
    bench.fit("plain", PLAIN, plain)
    assert differences(toy.state_dict(), plain.state_dict()) == []


@pytest.mark.slow
def test_a_compiled_encoder_learns_the_same(bench: Bench) -> None:
    toy, plain = Toy(), Toy()
    bench.fit("compiled", TrainConfig(**{**vars(PLAIN), "compile": True}), toy)
    bench.fit("plain", PLAIN, plain)
    for a, b in zip(toy.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_processes_add_up_what_they_validated(bench: Bench) -> None:
    """Two processes, each with its share, find what one finds with everything."""
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()
    store = bench.root / "store"
    workers = [
        context.Process(target=_evaluate_share, args=(rank, store, results)) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    shares = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    everything = evaluate(Toy(), Held(make_data(train=False), 5), torch.device("cpu"))
    for share in shares:
        assert share == pytest.approx(everything)


def _evaluate_share(rank: int, store: Path, results: Any) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    batches = list(Held(make_data(train=False), 5))[rank::2]
    results.put(evaluate(Toy(), batches, torch.device("cpu")))
    torch.distributed.destroy_process_group()


def test_a_longer_run_goes_on_from_a_finished_one(bench: Bench) -> None:
    """With a rate that does not look ahead, epochs may be added."""
    bench.fit("whole", PLAIN)
    short = TrainConfig(**{**vars(PLAIN), "epochs": 2.0})
    bench.fit("grown", short)
    result = bench.fit("grown", PLAIN, resume=True)
    assert result.steps == 40
    a, b = (read_checkpoint(bench.root / n / "checkpoints/last.ckpt") for n in ("whole", "grown"))
    assert differences(a["state_dict"], b["state_dict"]) == []
    assert differences(a["optimizer_states"], b["optimizer_states"]) == []


def test_an_encoder_without_blocks_is_not_computed_again(bench: Bench) -> None:
    with pytest.raises(UserError, match="checkpointing: Encoder does not know how"):
        bench.fit("frugal", replace(PLAIN, checkpointing=True))
