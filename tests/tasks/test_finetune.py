"""From labelled files to a tested classifier, with what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.augment import AugmentConfig
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.evaluation.predictions import load_predictions
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks import finetune as module
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import Finetuned, cost, finetune
from sonoformer.tasks.model import load_model
from sonoformer.tasks.turn import Trained, train_turn
from sonoformer.tasks.turns import Turn
from sonoformer.training.config import OptimiserConfig

LABELS = ["low", "mid", "high"] * 8
MakeSet, Make, Start = Callable[..., Manifest], Callable[..., FinetuneConfig], Callable[..., Run]


def do(
    manifest: Manifest, encoder: AstEncoder, config: FinetuneConfig, run: Run, **options: object
) -> Finetuned:
    with run:
        return finetune(
            manifest,
            encoder,
            config,
            run,
            device="cpu",
            bar=False,
            **options,  # type: ignore[arg-type]
        )


def test_a_split_is_learned_tested_and_left_in_the_folder(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start, tmp_path: Path
) -> None:
    manifest = make_set(LABELS)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    settings = config(
        epochs=12, validation=0.15, test=0.25,
        augment=AugmentConfig(mixup=0.5, freq_mask=3, time_mask=5, noise=True),
        classifier=ClassifierConfig(label_smoothing=0.1, drop_path=0.1, class_weights="balanced"),
        adaptation=AdaptationConfig(layer_decay=0.9, freeze_epochs=1),
    )  # fmt: skip
    run = start(settings)
    result = do(manifest, encoder, settings, run, cache=tmp_path / "cache")
    assert result.card is not None
    assert result.card.figures["accuracy"].value >= 0.8
    assert result.card.clips == 6
    for name in ("report.html", "confusion.png", "metrics.csv", "curves.png", "config.yaml"):
        assert (run.folder / name).stat().st_size > 0
    stored = read_json(run.folder / "metrics.json")
    assert stored["test"]["figures"]["accuracy"]["value"] == result.card.figures["accuracy"].value
    assert "valid/accuracy" in (run.folder / "metrics.csv").read_text()
    # The caller's encoder is as it was, and the model in the folder is the one that was tested.
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])
    model = load_model(run.folder)
    assert model.encoder.config.front == encoder.config.front  # type: ignore[union-attr]
    table = pl.read_parquet(run.folder / "predictions.parquet")
    import soundfile

    row = table.row(0, named=True)
    wave = torch.from_numpy(soundfile.read(row["clip"], dtype="float32")[0])[None]
    scores = model.predict_waveforms(wave)[0].tolist()
    assert scores == pytest.approx([row[f"score {name}"] for name in model.classes], abs=2e-4)


def test_folds_are_trainings_of_their_own_and_done_once(
    make_set: MakeSet,
    encoder: AstEncoder,
    config: Make,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = make_set(LABELS, fold=["1"] * 12 + ["2/x"] * 12)
    settings = config(epochs=1)
    calls: list[int] = []
    original = module.train_turn

    def stop_at_the_second(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_turn", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        do(manifest, encoder, settings, start(settings))
    run = start(settings, resume=True)
    result = do(manifest, encoder, settings, run, resume=True)
    assert len(calls) == 3
    assert [path.parent.name for path in result.models] == ["fold-1", "fold-2_x"]
    whole = do(manifest, encoder, settings, start(settings, "whole"))
    assert np.array_equal(result.answers[0].scores, whole.answers[0].scores)
    assert len(result.answers[0]) == 24
    assert result.over_folds["accuracy"].over == "2 folds"
    stored = read_json(run.folder / "metrics.json")
    assert stored["trainings"] == 2
    folds = pl.read_parquet(run.folder / "predictions.parquet")["fold"].to_list()
    assert folds == ["1"] * 12 + ["2/x"] * 12
    for fold, part in (("1", slice(0, 12)), ("2_x", slice(12, 24))):
        alone = load_predictions(run.folder / f"fold-{fold}" / "predictions.parquet", single=True)
        assert np.array_equal(alone.scores, result.answers[0].scores[part])


def test_seeds_share_the_split_and_differ_in_training(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    settings = config(epochs=1, seeds=2, test=0.25)
    result = do(make_set(LABELS), encoder, settings, start(settings))
    first, second = result.answers
    assert tuple(first.clips) == tuple(second.clips)
    assert not np.array_equal(first.scores, second.scores)
    assert [path.parent.name for path in result.models] == ["seed-0", "seed-1"]
    assert result.card is not None
    assert result.card.figures["accuracy"].over == "6 clips, 2 seeds"
    assert result.over_folds["accuracy"].over == "2 seeds"


def test_a_probe_says_what_its_saved_model_says(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    manifest = make_set(LABELS, fold=["1", "1", "1", "2", "2", "2"] * 4)
    settings = config(method="probe", classifier=ClassifierConfig(layers=(0, 1)))
    run = start(settings)
    result = do(manifest, encoder, settings, run)
    assert result.card is not None
    assert result.card.figures["accuracy"].value >= 0.9
    assert len(list((run.folder / "features").glob("*.npy"))) == 1
    import soundfile

    model = load_model(run.folder / "fold-2")
    answers = result.answers[0]
    row = list(answers.clips).index(manifest.paths[3])
    wave = torch.from_numpy(soundfile.read(manifest.paths[3], dtype="float32")[0])[None]
    scores = model.predict_waveforms(wave)[0].numpy()
    assert np.abs(scores - answers.scores[row]).max() < 1e-4


def test_a_head_that_starts_as_a_probe(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    manifest = make_set(LABELS, fold=["1", "1", "1", "2", "2", "2"] * 4)
    still = OptimiserConfig(lr=1e-12)
    probe = config(method="probe")
    begun = config(epochs=0.1, classifier=ClassifierConfig(head="probe"))
    begun = replace(begun, train=replace(begun.train, optimiser=still))
    found = [
        do(manifest, encoder, each, start(each, name)).answers[0]
        for name, each in (("probe", probe), ("begun", begun))
    ]
    # Before it has learned anything it says what the probe says.
    assert np.abs(found[0].scores - found[1].scores).max() < 1e-4
    learned = config(epochs=4, classifier=ClassifierConfig(head="probe"))
    run = start(learned)
    result = do(manifest, encoder, learned, run)
    assert result.card is not None
    assert result.card.figures["accuracy"].value >= 0.8
    assert np.abs(found[0].scores - result.answers[0].scores).max() > 1e-2
    assert load_model(run.folder / "fold-2").config.pool == "bands_std"


def test_a_head_that_starts_as_a_probe_of_several_labels(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    manifest = make_set(LABELS)
    rows = [[name, "tone"] if i % 2 else [name] for i, name in enumerate(LABELS)]
    table = manifest.table.with_columns(labels=pl.Series(rows))
    settings = config(epochs=1, test=0.25, classifier=ClassifierConfig(head="probe"))
    result = do(Manifest.of(table, "tones"), encoder, settings, start(settings))
    assert result.card is not None
    assert result.card.figures["mAP"].value > 0.8


@pytest.mark.parametrize("method", ["probe", "train"])
def test_one_clip_of_each_class_is_enough_to_train(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start, method: str
) -> None:
    settings = config(epochs=2, method=method, shots=1, validation=0.2, test=0.25)
    run = start(settings)
    result = do(make_set(LABELS), encoder, settings, run)
    assert "shots: 1 of each class, 3 of 12 clips" in run.lines  # type: ignore[attr-defined]
    assert result.card is not None


def test_each_seed_draws_its_own_shots_and_says_what_is_short(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    labels = ["low", "mid"] * 9 + ["high"] * 2
    parts = ["train"] * 12 + ["test"] * 6 + ["train", "test"]
    settings = config(epochs=1, shots=2, seeds=3)
    run = start(settings)
    found = set()

    def watch(init: object, clips: Clips, turn: Turn, *rest: object, **options: object) -> Trained:
        found.add(tuple(turn.train.tolist()))
        return train_turn(init, clips, turn, *rest, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train_turn", watch)
        do(make_set(labels, split=parts), encoder, settings, run)
    assert len(found) == 3
    assert {len(rows) for rows in found} == {5}
    text = "fewer than 2 clips to train on, all of them taken: high (1)"
    assert sum(text in line for line in run.lines) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_learns_the_same(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start, precision: str
) -> None:
    manifest, weights = make_set(LABELS), []
    for name, checkpointing in (("plain", False), ("frugal", True)):
        settings = config(epochs=2, classifier=ClassifierConfig(drop_path=0.3))
        train = replace(settings.train, precision=precision, checkpointing=checkpointing)
        settings = replace(settings, train=train)
        result = do(manifest, encoder, settings, start(settings, name))
        weights.append(load_model(result.models[0]).state_dict())
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


def test_several_labels_with_gaps_in_what_is_known(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    manifest = make_set(LABELS)
    rows = [[name, "tone"] if i % 2 else [name] for i, name in enumerate(LABELS)]
    table = manifest.table.with_columns(
        labels=pl.Series(rows), reviewed=pl.Series([i % 3 > 0 for i in range(24)])
    )
    settings = config(epochs=2, test=0.25)
    result = do(Manifest.of(table, "tones"), encoder, settings, start(settings))
    assert result.card is not None
    assert next(iter(result.card.figures)) == "mAP"
    assert result.card.confusion is None
    assert not result.answers[0].known.all()


def test_long_clips_are_scored_in_windows(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    labels = ["low", "mid", "high"] * 4
    manifest = make_set(labels, seconds=1.3)
    settings = config(epochs=1, seconds=0.5, test=0.5)
    result = do(manifest, encoder, settings, start(settings))
    model = load_model(result.folder)
    import soundfile

    clip = result.answers[0].clips[0]
    wave = torch.from_numpy(soundfile.read(clip, dtype="float32")[0])
    starts = np.linspace(0, len(wave) - 4000, 3).astype(int)
    windows = torch.stack([wave[s : s + 4000] for s in starts])
    expected = model.predict_waveforms(windows).mean(0).numpy()
    assert np.abs(expected - result.answers[0].scores[0]).max() < 2e-4


def test_labels_that_only_the_test_has_are_said_and_left_out(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    split = ["train"] * 16 + ["test"] * 8
    labels = ["low", "mid"] * 8 + ["low", "mid", "high", "high"] * 2
    settings = config(epochs=1)
    run = start(settings)
    result = do(make_set(labels, split=split), encoder, settings, run)
    assert result.card is not None
    assert result.card.clips == 4
    assert result.card.classes == ("low", "mid")
    assert any("labels that no training clip has: high (4)" in line for line in run.lines)  # type: ignore[attr-defined]
    assert any("4 clips carry none of this model's classes" in note for note in result.card.notes)


def test_a_broken_file_is_listed_and_the_rest_is_used(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    manifest = make_set(LABELS)
    Path(manifest.paths[5]).write_text("broken")
    settings = config(epochs=1, test=0.25)
    run = start(settings)
    do(manifest, encoder, settings, run)
    assert [path for path, _ in run.problems] == [manifest.paths[5]]
    assert "1 file was skipped" in (run.folder / "report.html").read_text()


def test_without_test_clips_a_model_is_made_all_the_same(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    settings = config(epochs=1, test=0.0)
    result = do(make_set(LABELS), encoder, settings, start(settings))
    assert result.card is None
    assert load_model(result.folder).classes == ("high", "low", "mid")
    assert "not tested" in (result.folder / "report.html").read_text()


def test_a_fresh_encoder_keeps_only_the_shape(
    make_set: MakeSet, encoder: AstEncoder, config: Make
) -> None:
    from sonoformer.tasks.start import make_encoder

    settings = config(fresh=True, stride=(4, 4), classifier=ClassifierConfig(drop_path=0.2))
    made, again = (make_encoder(encoder, settings, seed=1) for _ in range(2))
    assert made.config.stride == (4, 4)
    assert made.config.drop_path == 0.2
    assert made.config.front == encoder.config.front
    weights = {n: p for n, p in made.named_parameters() if p.ndim > 1}
    assert all(torch.equal(p, again.get_parameter(n)) for n, p in weights.items())
    assert not torch.equal(made.pos_embed, encoder.pos_embed)
    kept = make_encoder(encoder, config(stride=(4, 4), seconds=0.5), seed=1)
    assert torch.equal(kept.pos_embed, encoder.pos_embed)


def test_normalisation_is_measured_on_the_training_clips(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    settings = config(epochs=1, statistics="measure", test=0.25)
    result = do(make_set(LABELS), encoder, settings, start(settings))
    front = load_model(result.folder).encoder.config.front  # type: ignore[union-attr]
    assert front.mean != encoder.config.front.mean
    assert front.n_mels == encoder.config.front.n_mels


def test_cost_counts_trainings_and_sound(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    manifest = make_set(LABELS, fold=["1", "2", "3"] * 8)
    settings = config(epochs=2, seeds=2)
    each, count, seconds = cost(manifest, encoder, settings, start(settings), device="cpu")
    assert count == 6
    assert each.steps == 2 * (16 // 6)
    assert seconds == pytest.approx(24 * 0.4)


def test_other_data_is_not_resumed(
    make_set: MakeSet, encoder: AstEncoder, config: Make, start: Start
) -> None:
    settings = config(epochs=1, test=0.25)
    do(make_set(LABELS), encoder, settings, start(settings))
    with pytest.raises(UserError, match="the data changed"):
        do(make_set(LABELS[::-1]), encoder, settings, start(settings, resume=True), resume=True)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"seeds": 0}, "seeds"), ({"folds": 1}, "folds"), ({"test": 1.0}, "test"),
     ({"shots": 0}, "shots"), ({"seconds": 0.0}, "seconds"), ({"stride": (0, 1)}, "stride"),
     ({"method": "probe", "classifier": ClassifierConfig(head="weighted")}, "head")],
)  # fmt: skip
def test_options_out_of_range_are_named(options: dict, name: str) -> None:
    with pytest.raises(UserError, match=name):
        FinetuneConfig(**options)
