"""The frozen part of an encoder, computed once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.augment import AugmentConfig
from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder, SsambaEncoder, ssamba_config
from sonoformer.errors import AudioError, UserError
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import finetune
from sonoformer.tasks.frozen import StoredValues
from sonoformer.tasks.model import load_model

MakeSet, Make, Start = Callable[..., Manifest], Callable[..., FinetuneConfig], Callable[..., Run]
HEAD = AdaptationConfig(weights="head")
LAST = AdaptationConfig(weights="partial", blocks=1)


def ssamba() -> SsambaEncoder:
    torch.manual_seed(0)
    front = FbankConfig(sample_rate=8000, n_mels=16, mean=-8.0, std=4.0)
    return SsambaEncoder(
        ssamba_config(dim=16, depth=2, states=4, patch=(8, 8), stride=(8, 8), table=(2, 8),
                      table_stride=(8, 8), cls="middle", front=front)
    )  # fmt: skip


class Clips:
    """Three clips without sound."""

    sample_rate, lengths = 100, np.array([100, 50, 100])

    def __len__(self) -> int:
        return 3

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        raise NotImplementedError

    def name(self, index: int) -> str:
        return f"{index}.wav"


class Trials:
    """Trains with and without the cache on clips of two lengths."""

    def __init__(self, make_set: MakeSet, config: Make, start: Start, folder: Path) -> None:
        ends = [0.25 + 0.05 * (row % 5) for row in range(24)]
        self.manifest = make_set(["low", "mid", "high"] * 8, 0.5, end=ends)
        self.config, self.start, self.folder = config, start, folder

    def train(
        self, init: nn.Module, name: str, *, cache: str, epochs: float = 3, **options: object
    ) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Weights of the model, and the lines of the log."""
        defaults = {"validation": 0.2, "test": 0.2}
        settings = self.config(epochs=epochs, frozen_cache=cache, **(defaults | options))
        with self.start(settings, name) as run:
            done = finetune(self.manifest, init, settings, run, device="cpu", bar=False)
        return load_model(done.models[0]).state_dict(), run.lines  # type: ignore[attr-defined]


@pytest.fixture
def trials(make_set: MakeSet, config: Make, start: Start, tmp_path: Path) -> Trials:
    return Trials(make_set, config, start, tmp_path)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"adaptation": HEAD}, id="head"),
        pytest.param(
            {"adaptation": HEAD, "classifier": ClassifierConfig(layers=(0, 1), pool="bands")},
            marks=pytest.mark.slow,
            id="layers",
        ),
        pytest.param({"adaptation": LAST}, id="last"),
        pytest.param(
            {"adaptation": LAST, "fixed_frames": 64, "seconds": 0.65},
            marks=pytest.mark.slow,
            id="fixed",
        ),
    ],
)
def test_it_learns_what_it_learns_without(
    trials: Trials, encoder: AstEncoder, options: dict
) -> None:
    anew, lines = trials.train(encoder, "anew", cache="off", **options)
    assert not any("frozen part" in line for line in lines)
    once, lines = trials.train(encoder, "once", cache="on", **options)
    assert any("the frozen part is computed once for each of" in line for line in lines)
    close(anew, once)
    moved = {
        name.split(".")[0]
        for name, value in encoder.state_dict().items()
        if name.startswith(("blocks.", "norm.")) and not torch.equal(once[f"encoder.{name}"], value)
    }
    assert moved == ({"blocks", "norm"} if options["adaptation"] is LAST else set())
    assert torch.equal(once["encoder.blocks.0.mlp.fc1.weight"], encoder.blocks[0].mlp.fc1.weight)
    assert not (trials.folder / "once" / "frozen").exists()


@pytest.mark.slow
def test_state_space_blocks_too(trials: Trials) -> None:
    anew, _ = trials.train(ssamba(), "anew", cache="off", adaptation=LAST, epochs=2)
    once, _ = trials.train(ssamba(), "once", cache="auto", adaptation=LAST, epochs=2)
    close(anew, once)


def test_the_encoder_is_run_once_a_clip_and_not_again(
    trials: Trials, encoder: AstEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    forward = AstEncoder.forward

    def counted(self: AstEncoder, audio: torch.Tensor, *args: object, **options: object) -> object:
        heard.append(len(audio))
        return forward(self, audio, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(AstEncoder, "forward", counted)
    options = {"adaptation": HEAD, "test": 0.0, "seeds": 2, "epochs": 3}
    trials.train(encoder, "once", cache="auto", **options)  # type: ignore[arg-type]
    assert sum(heard) == 24  # by the first seed; the second finds what it left


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "every block trains"),
        ({"adaptation": AdaptationConfig(weights="partial", blocks=2)}, "every block trains"),
        ({"adaptation": HEAD, "augment": AugmentConfig(gain_db=3.0)}, "augmented"),
        ({"adaptation": HEAD, "augment": AugmentConfig(freq_mask=3)}, "augmented"),
        ({"adaptation": HEAD, "seconds": 0.3}, "cropped at random"),
        ({"adaptation": LAST, "classifier": ClassifierConfig(drop_path=0.1)}, "drop_path"),
        ({"adaptation": HEAD, "classifier": ClassifierConfig(head="weighted")}, "more than one"),
        ({"method": "lora"}, "method lora trains"),
    ],
)
def test_what_it_would_change_is_refused_or_done_without(
    trials: Trials, encoder: AstEncoder, options: dict, reason: str
) -> None:
    with pytest.raises(UserError, match=f"frozen_cache: .*{reason}"):
        trials.train(encoder, "on", cache="on", **options)


def test_it_is_done_without_and_said(trials: Trials, encoder: AstEncoder) -> None:
    augment = AugmentConfig(gain_db=3.0)
    _, lines = trials.train(encoder, "auto", cache="auto", adaptation=HEAD, augment=augment)
    assert "the frozen part is computed anew in every epoch: the clips are augmented" in lines


def test_clips_cut_at_their_beginning_are_kept(trials: Trials, encoder: AstEncoder) -> None:
    options = {"adaptation": HEAD, "seconds": 0.3, "crops": "first", "epochs": 1}
    _, lines = trials.train(encoder, "on", cache="on", **options)  # type: ignore[arg-type]
    assert any("computed once" in line for line in lines)


def test_values_come_from_disk_in_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "values"
    np.arange(6, dtype=np.float32).tofile(path)
    index = np.array([[2, 0, 0], [4, 0, 2]])
    source = StoredValues(path, index, Clips())
    source.read(0, 0, 1)
    again = pickle.loads(pickle.dumps(source))
    assert again._values is None
    assert again.read(0, 1, 2).tolist() == [3.0, 4.0]
    assert again.read(2, 0, 2).tolist() == [0.0, 1.0]
    assert again.sample_rate == 2
    with pytest.raises(AudioError, match="could not be read"):
        source.read(1, 0, 1)
