"""Methods and rates tried within a number of minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import Answers
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks import budget as module
from sonoformer.tasks.budget import candidates, search
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune
from sonoformer.tasks.model import load_model

MakeSet, Make, Start = Callable[..., Manifest], Callable[..., FinetuneConfig], Callable[..., Run]
NAMES = [
    "probe",
    "lora from a probe, rate 0.001",
    "lora from a probe, rate 0.005",
    "conformer from a probe",
    "full from a probe",
    "full, rate 0.0003",
    "full, rate 0.001",
]


def table(clips: int = 60) -> Manifest:
    rows = {
        "path": [f"{i}.wav" for i in range(clips)],
        "labels": [["ab"[i % 2]] for i in range(clips)],
        "group": [str(i // 4) for i in range(clips)],
        "split": [
            "test" if i >= 48 else "validation" if i >= 40 else "train" for i in range(clips)
        ],
    }
    return Manifest.of(pl.DataFrame(rows))


def name_of(config: FinetuneConfig) -> str:
    for name, (_, options) in candidates(FinetuneConfig(), "base").items():
        same = replace(config, train=replace(config.train, epochs=options.train.epochs))
        if same == options:
            return name
    raise AssertionError(config)


class Pupils:
    """Stands in for training: right in a share of the clips that is each candidate's own."""

    def __init__(self, right: dict[str, float], at: Callable[[str], Any] = lambda name: None):
        self.right, self.at = right, at
        self.done: list[tuple[str, float]] = []
        self.tables: list[Manifest] = []

    def __call__(self, manifest: Manifest, config: FinetuneConfig, run: Run, again: bool) -> Any:
        name = name_of(config)
        self.at(name)
        self.done.append((name, config.train.epochs))
        self.tables.append(manifest)
        truth = np.array([[1, 0], [0, 1]] * 50, bool)
        count = round(self.right.get(name, 0.5) * 50)
        wrong = np.concatenate([np.arange(2 * count, 100)])
        scores = truth.astype(np.float32)
        scores[wrong] = 1 - scores[wrong]
        names = tuple(map(str, range(100)))
        return SimpleNamespace(
            answers=[Answers(("a", "b"), scores, truth, single=True, clips=names, groups=names)]
        )


def look(run: Run, pupils: Pupils, cost: Callable[[str], float] = lambda name: 1.0, **options: Any):
    config = FinetuneConfig(**{"budget": 30.0, **options})
    with run:
        return search(
            table(),
            "base",
            config,
            run,
            seed=0,
            train=pupils,
            cost=lambda manifest, init, tried: cost(name_of(tried)),
        )


def trials(run: Run) -> dict[str, dict[str, Any]]:
    return {trial["name"]: trial for trial in read_json(run.folder / "budget.json")["trials"]}


def test_the_better_half_trains_on_and_the_best_is_taken(start: Start) -> None:
    pupils = Pupils(
        {
            "lora from a probe, rate 0.005": 0.9,
            "conformer from a probe": 0.8,
            "full, rate 0.001": 0.7,
            "probe": 0.65,
        }
    )
    run = start(FinetuneConfig(budget=30.0))
    manifest, config = look(run, pupils)
    assert [name for name, epochs in pupils.done if epochs == 2.5] == [*NAMES[1:]]
    assert [name for name, epochs in pupils.done if epochs == 10] == [
        "probe",
        "lora from a probe, rate 0.005",
        "conformer from a probe",
        "full, rate 0.001",
    ]
    assert pupils.done[0] == ("probe", 10)
    assert (config.method, config.train.optimiser.lr, config.budget) == ("lora", 5e-3, None)
    parts = manifest.table["split"].value_counts()
    assert dict(parts.iter_rows()) == {"train": 48, "test": 12}
    written = read_json(run.folder / "budget.json")
    assert written["chosen"] == "lora from a probe, rate 0.005"
    assert "best accuracy on" in written["reason"]
    assert "0.900" in run.lines[-1]  # type: ignore[attr-defined]


def test_clips_are_held_out_by_group_and_test_clips_are_not_heard(start: Start) -> None:
    pupils = Pupils({})
    look(start(FinetuneConfig(budget=30.0)), pupils)
    for manifest in pupils.tables:
        rows = manifest.table
        assert {int(path.removesuffix(".wav")) for path in rows["path"]} == set(range(48))
        assert rows.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
        assert set(rows["split"]) == {"train", "test"}


def test_what_cannot_be_finished_is_not_begun(start: Start) -> None:
    pupils = Pupils({"probe": 0.6})
    run = start(FinetuneConfig(budget=30.0))
    look(run, pupils, lambda name: 1e5 if name.startswith("full") else 1.0)
    assert not [name for name, _ in pupils.done if name.startswith("full")]
    assert "too long for the budget" in trials(run)["full, rate 0.001"]["note"]


def test_a_probe_does_not_win_for_being_finished(start: Start) -> None:
    pupils = Pupils({"probe": 0.7, "conformer from a probe": 0.9})
    run = start(FinetuneConfig(budget=30.0))
    _, config = look(run, pupils, lambda name: 1000.0)  # a quarter of the steps, and no more
    assert {epochs for name, epochs in pupils.done if name != "probe"} == {2.5}
    assert config.method == "conformer"
    assert "of 7 with 25% of the steps" in read_json(run.folder / "budget.json")["reason"]


def test_a_candidate_that_fails_is_noted(start: Start) -> None:
    def refuse(name: str) -> None:
        if name == "conformer from a probe":
            raise UserError("does not fit")

    pupils = Pupils({"lora from a probe, rate 0.001": 0.9}, refuse)
    run = start(FinetuneConfig(budget=30.0))
    _, config = look(run, pupils)
    assert trials(run)["conformer from a probe"]["note"] == "does not fit"
    assert config.method == "lora"


def test_stopping_loses_no_trial(start: Start, tmp_path: Path) -> None:
    def stop(name: str) -> None:
        if name == "conformer from a probe":
            raise KeyboardInterrupt

    settings = FinetuneConfig(budget=30.0)
    first = Pupils({"lora from a probe, rate 0.001": 0.9}, stop)
    run = start(settings)
    with pytest.raises(KeyboardInterrupt):
        look(run, first)
    assert trials(run)["lora from a probe, rate 0.001"]["value"] == pytest.approx(0.9)
    again = Pupils({"lora from a probe, rate 0.001": 0.9})
    resumed = start(settings, resume=True)
    _, config = look(resumed, again)
    assert again.done[0] == ("conformer from a probe", 2.5)
    assert not set(first.done) & set(again.done)
    assert config.train.optimiser.lr == 1e-3
    # And when all is known nothing is tried again.
    third = Pupils({})
    _, same = look(start(settings, resume=True), third)
    assert same == config
    assert not third.done


def test_shots_bound_what_is_learned_from(start: Start) -> None:
    pupils = Pupils({})
    manifest, config = look(start(FinetuneConfig(budget=30.0, shots=8)), pupils, shots=8)
    assert len(pupils.tables[0]) == 16
    assert config.shots is None
    assert (manifest.table["split"] == "train").sum() == 16


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "lora"}, "chooses the method itself"),
        ({"seeds": 2}, "one split with one seed"),
        ({"protocol": "folds"}, "one split with one seed"),
        ({"classifier": ClassifierConfig(head="probe")}, "head and weights"),
        ({"adaptation": AdaptationConfig(weights="head")}, "head and weights"),
    ],
)
def test_what_is_chosen_cannot_be_given(start: Start, options: dict, text: str) -> None:
    with pytest.raises(UserError, match=f"budget: .*{text}"):
        look(start(FinetuneConfig(budget=30.0)), Pupils({}), **options)


def test_one_group_leaves_nothing_to_choose_on(start: Start) -> None:
    config = FinetuneConfig(budget=30.0)
    alone = table().with_columns(
        pl.when(pl.col("split") == "test").then(pl.lit("y")).otherwise(pl.lit("x")).alias("group")
    )
    with pytest.raises(UserError, match="budget: no clips can be held out"), start(config) as run:
        search(alone, "base", config, run, seed=0, train=Pupils({}), cost=lambda *_: 1.0)


def test_random_weights_are_trained_in_full() -> None:
    assert all(c.method == "train" for _, c in candidates(FinetuneConfig(), None).values())


def test_a_model_comes_of_it(
    make_set: MakeSet,
    encoder: AstEncoder,
    config: Make,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = candidates
    monkeypatch.setattr(
        module,
        "candidates",
        lambda c, i: {n: every(c, i)[n] for n in ("probe", "full, rate 0.001")},
    )
    settings = config(epochs=4, budget=5.0, test=0.25)
    with start(settings) as run:
        done = finetune(
            make_set(["low", "mid", "high"] * 8), encoder, settings, run, device="cpu", bar=False
        )
    assert done.card is not None
    assert len(load_model(done.models[0]).classes) == 3
    assert "held-out clips" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert read_json(run.folder / "metrics.json")["budget"]["chosen"] in (
        "probe",
        "full, rate 0.001",
    )
