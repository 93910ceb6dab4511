"""Losses: equal to torch's where torch has them; soft labels and unknown cells are respected."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.augment import DRAWS, AugmentConfig
from sonoformer.data.batch import Batch
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.tasks.classification import (
    Classifier,
    ClassifierConfig,
    binary_cross_entropy,
    cross_entropy,
    label_ranking_precision,
)
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model


def case(seed: int = 0, clips: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(clips, classes, generator=random)
    return logits, torch.randint(0, classes, (clips,), generator=random)


def test_cross_entropy_is_torchs() -> None:
    logits, truth = case()
    hard = F.one_hot(truth, 4).float()
    torch.testing.assert_close(cross_entropy(logits, hard), F.cross_entropy(logits, truth))
    smoothed = F.cross_entropy(logits, truth, label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(logits, hard, smoothing=0.2), smoothed)
    soft = 0.3 * hard + 0.7 * hard.roll(1, 0)
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0])
    expected = F.cross_entropy(logits, soft, weight=weight)
    torch.testing.assert_close(cross_entropy(logits, soft, weight=weight), expected)


def test_mixed_labels_pull_towards_both_classes() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    cross_entropy(logits, torch.tensor([[0.6, 0.4, 0.0]])).backward()
    assert logits.grad is not None
    first, second, third = logits.grad[0].tolist()
    assert first < second < 0 < third


def test_clips_without_a_label_cost_nothing() -> None:
    logits, truth = case()
    hard = F.one_hot(truth, 4).float()
    hard[4:] = 0
    known = torch.ones(6, 4, dtype=torch.bool)
    known[4:] = False
    expected = F.cross_entropy(logits[:4], truth[:4])
    torch.testing.assert_close(cross_entropy(logits, hard, known), expected)
    assert cross_entropy(logits, hard, torch.zeros_like(known)) == 0


def test_binary_cross_entropy_is_torchs_on_known_cells() -> None:
    logits, _ = case()
    targets = (torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    known = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) < 0.6
    torch.testing.assert_close(
        binary_cross_entropy(logits, targets), F.binary_cross_entropy_with_logits(logits, targets)
    )
    expected = F.binary_cross_entropy_with_logits(logits[known], targets[known])
    torch.testing.assert_close(binary_cross_entropy(logits, targets, known), expected)


def test_an_unknown_cell_has_no_gradient() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    known = torch.tensor([[True, False], [True, True]])
    binary_cross_entropy(logits, torch.zeros(2, 2), known).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).equal(known)


def test_label_ranking_precision_is_scikit_learns_weighted_by_labels() -> None:
    from sklearn.metrics import label_ranking_average_precision_score

    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(20, 5)), rng.random((20, 5)) < 0.4
    targets[:, 0] |= ~targets.any(1)
    total, count = label_ranking_precision(
        torch.from_numpy(scores), torch.from_numpy(targets), torch.ones(20, 5, dtype=torch.bool)
    )
    expected = label_ranking_average_precision_score(targets, scores, sample_weight=targets.sum(1))
    assert (total / count).item() == pytest.approx(expected)


def test_label_ranking_precision_ignores_unknown_classes() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1]])
    targets = torch.tensor([[False, True, False]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    assert label_ranking_precision(scores, targets, everything)[0] == 0.5
    assert label_ranking_precision(scores, targets, torch.tensor([[False, True, True]]))[0] == 1


def batch(classes: int = 3, draws: bool = False) -> Batch:
    random = torch.Generator().manual_seed(3)
    return Batch(
        wave=0.1 * torch.randn(4, 4000, generator=random),
        lengths=torch.tensor([4000, 3000, 4000, 2000]),
        index=torch.arange(4),
        targets=torch.eye(classes)[[0, 1, 2, 0]],
        known=torch.ones(4, classes, dtype=torch.bool),
        draws=torch.rand(4, DRAWS, generator=random) if draws else None,
    )


@pytest.mark.parametrize(("loss", "softmax"), [("auto", True), ("ce", True), ("bce", False)])
def test_a_single_label_learner_reports_loss_and_accuracy(
    encoder: AstEncoder, loss: str, softmax: bool
) -> None:
    config = ClassifierConfig(loss=loss)  # type: ignore[arg-type]
    learner = Classifier(Model(encoder, ("a", "b", "c"), config.head_config(True)), config)
    assert learner.model.softmax == softmax
    value, metrics = learner.loss(batch())
    value.backward()
    assert all(p.grad is not None for p in learner.parameters())
    assert 0 <= metrics["accuracy"] <= 1
    sums = learner.eval().evaluate(batch())
    assert set(sums) == {"loss", "accuracy"}
    assert sums["accuracy"][1] == 4


def test_a_multi_label_learner_reports_loss_and_ranking(encoder: AstEncoder) -> None:
    config = ClassifierConfig(task="multi")
    learner = Classifier(Model(encoder, ("a", "b", "c"), config.head_config(False)), config)
    assert learner.loss(batch())[1] == {}
    assert set(learner.eval().evaluate(batch())) == {"loss", "lwlrap"}


def test_validation_loss_has_neither_weights_nor_smoothing(encoder: AstEncoder) -> None:
    config = ClassifierConfig(label_smoothing=0.3)
    model = Model(encoder, ("a", "b", "c"), config.head_config(True))
    weighted = Classifier(model, config, class_weight=torch.tensor([5.0, 1.0, 1.0])).eval()
    plain = Classifier(model).eval()
    total, count = weighted.evaluate(batch())["loss"]
    assert count == 4
    torch.testing.assert_close(total, plain.evaluate(batch())["loss"][0])
    assert weighted.loss(batch())[0] != plain.loss(batch())[0]


def test_spectrograms_are_augmented_in_training_only_and_repeatably(encoder: AstEncoder) -> None:
    augment = AugmentConfig(freq_mask=12, time_mask=20, noise=True)
    model = Model(encoder, ("a", "b", "c"))
    learner = Classifier(model, augment=augment)
    given = batch(draws=True)
    first, again = learner.loss(given)[0], learner.loss(given)[0]
    assert first == again
    plain = Classifier(model).loss(given)[0]
    assert first != plain
    torch.testing.assert_close(learner.eval().loss(given)[0], plain)


def test_the_head_trains_alone_first(encoder: AstEncoder) -> None:
    adaptation = AdaptationConfig(freeze_epochs=2)
    learner = Classifier(Model(encoder, ("a", "b", "c")), adaptation=adaptation, steps_per_epoch=5)
    groups = learner.parameter_groups(0.1)
    assert sum(len(g["params"]) for g in groups) == len(list(learner.parameters()))
    for step, training in ((0, False), (9, False), (10, True)):
        learner.start_step(step, 20)
        assert encoder.blocks[0].attn.qkv.weight.requires_grad == training  # type: ignore[union-attr]
        assert all(p.requires_grad for p in learner.head.parameters())


@pytest.mark.parametrize(
    ("options", "several", "problem"),
    [
        ({"task": "single"}, True, "task: clips have several labels"),
        ({"loss": "ce"}, True, "loss: clips have several labels"),
    ],
)
def test_several_labels_under_a_single_label_task_are_refused(
    options: dict[str, str], several: bool, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        ClassifierConfig(**options).is_single(several)  # type: ignore[arg-type]


def test_options_out_of_range_are_named() -> None:
    for option in ({"label_smoothing": 1.0}, {"drop_path": -0.1}, {"task": "multi", "loss": "ce"}):
        with pytest.raises(UserError, match=[*option][-1]):
            ClassifierConfig(**option)  # type: ignore[arg-type]


def test_weighted_head_starts_as_the_mean_of_the_blocks(encoder: AstEncoder) -> None:
    """SUPERB's mix begins with equal shares, and padding has no part in it."""
    model = Model(encoder.eval(), ("a", "b"), HeadConfig(kind="weighted"))
    wave = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    tokens = encoder(wave, layers=(0, 1))
    head = model.head
    mixed = (tokens.layers[0] + tokens.layers[1]) / 2
    expected = head.classifier(head.projector(mixed).mean(1))  # type: ignore[operator]
    torch.testing.assert_close(model.logits(wave), expected)
    padded = F.pad(wave, (0, 3000))
    torch.testing.assert_close(
        model.logits(padded, torch.tensor([4000])), expected, atol=1e-5, rtol=1e-5
    )
