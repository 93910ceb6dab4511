"""Probes on tokens: attentive and prototypical, and how they are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sonoformer.errors import UserError
from sonoformer.evaluation.attentive import AttentiveProbe
from sonoformer.evaluation.bags import Bags
from sonoformer.evaluation.descent import DescentConfig, descend
from sonoformer.evaluation.prototypical import PrototypicalProbe

DIM, CLASSES = 24, 3
QUICK = DescentConfig(rates=(2e-2,), steps=(80,))


def needles(seed: int, clips: int = 90) -> tuple[Bags, np.ndarray]:
    """One token of many tells the class; a mean over tokens hardly does."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, clips)
    counts = rng.integers(15, 30, clips)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = rng.normal(size=(offsets[-1], DIM))
    for clip, start in enumerate(offsets[:-1]):
        values[start + rng.integers(counts[clip])] = 9 * np.eye(DIM)[truth[clip]]
    return Bags(values.astype(np.float16), offsets, 1), truth


def one_hot(truth: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES)[truth] > 0


@pytest.mark.parametrize("kind", [AttentiveProbe, PrototypicalProbe])
def test_they_find_a_needle(kind: type) -> None:
    bags, truth = needles(0)
    fitted = descend(
        lambda: kind(DIM, CLASSES), bags, np.arange(90), one_hot(truth), single=True, config=QUICK
    )
    queries, asked = needles(1)
    scores = fitted.probabilities(queries, np.arange(90))
    assert scores.sum(1) == pytest.approx(1, abs=1e-5)
    assert (scores.argmax(1) == asked).mean() > 0.85


@pytest.mark.parametrize("kind", [AttentiveProbe, PrototypicalProbe])
def test_padding_changes_nothing(kind: type) -> None:
    torch.manual_seed(0)
    probe = kind(DIM, CLASSES)
    for parameter in probe.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 7, DIM)
    padded = torch.cat([x, 100 * torch.randn(2, 5, DIM)], 1)
    real = torch.arange(12).expand(2, -1) < 7
    alone = probe(x, torch.ones(2, 7, dtype=torch.bool))
    assert torch.allclose(probe(padded, real), alone, atol=1e-5)


def test_attention_sums_to_one_over_real_tokens() -> None:
    probe = AttentiveProbe(DIM, CLASSES, queries=2)
    real = torch.tensor([[True, True, False]])
    shares = probe.attention(torch.randn(1, 3, DIM), real)
    assert shares.shape == (1, 2, 3)
    assert torch.allclose(shares.sum(-1), torch.ones(1, 2))
    assert (shares[..., 2] == 0).all()


def test_prototypes_are_cosines_and_never_speak_against_a_class() -> None:
    probe = PrototypicalProbe(DIM, CLASSES, prototypes=2, orthogonality=1.0)
    x = probe.prototypes.detach().flatten(0, 1)[None] * 3
    found = probe.activations(x, torch.ones(1, 6, dtype=torch.bool))
    assert torch.allclose(found, torch.ones(1, 6), atol=1e-5)
    with torch.no_grad():
        probe.head.weight.fill_(-1.0)
        probe.constrain()
        assert (probe.head.weight == 0).all()
        before = probe.penalty().item()
        probe.prototypes[:, 1] = probe.prototypes[:, 0]
    assert probe.penalty().item() == pytest.approx(1.0, abs=1e-5)
    assert before < 1


def test_rate_and_steps_are_chosen_on_held_out_groups() -> None:
    """Labels that mean nothing: the least training overfits the least."""
    bags, _ = needles(0, clips=60)
    truth = np.random.default_rng(5).integers(0, CLASSES, 60)
    config = DescentConfig(rates=(1e-3, 1.0), steps=(5, 60))
    found = descend(
        lambda: AttentiveProbe(DIM, CLASSES),
        bags,
        np.arange(60),
        one_hot(truth),
        single=True,
        config=config,
    )
    assert (found.rate, found.steps) == (1e-3, 5)


def test_seeded() -> None:
    bags, truth = needles(0, clips=30)
    runs = [
        descend(
            lambda: AttentiveProbe(DIM, CLASSES),
            bags,
            np.arange(30),
            one_hot(truth),
            single=True,
            config=DescentConfig(rates=(1e-2,), steps=(5,)),
            seed=seed,
        ).probabilities(bags, np.arange(30))
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize(
    "change",
    [
        {"rates": ()},
        {"steps": (0,)},
        {"batch_size": 0},
        {"tokens": 0},
        {"weight_decay": -1.0},
        {"folds": 1},
    ],
)
def test_options_are_checked(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        DescentConfig(**change)
