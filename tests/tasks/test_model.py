"""Models: saved and loaded they say the same; what is wrong with a folder is a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sonoformer.encoders import AstEncoder, load_encoder, save_encoder
from sonoformer.errors import UserError
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import Model, load_model

CLASSES = ("frog", "owl", "rain")


def wave(seconds: float = 0.5, clips: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(clips, int(8000 * seconds), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "config",
    [
        HeadConfig(),
        HeadConfig(pool="cls", softmax=False),
        HeadConfig(kind="linear", layers=(0, 1), pool="bands"),
        HeadConfig(pool="bands_std"),
        HeadConfig(kind="weighted", single=False, softmax=False),
    ],
)
def test_a_saved_model_says_the_same(
    encoder: AstEncoder, config: HeadConfig, tmp_path: Path
) -> None:
    model = Model(encoder, CLASSES, config, thresholds=(0.2, 0.5, 0.9)).eval()
    model.save(tmp_path / "run" / "model", "# card", note="x")
    for place in ("run", "run/model"):
        again = load_model(tmp_path / place)
        assert (again.classes, again.config, again.thresholds) == (
            CLASSES,
            config,
            (0.2, 0.5, 0.9),
        )
        assert torch.equal(again.predict_waveforms(wave()), model.predict_waveforms(wave()))
    stored = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert stored["note"] == "x"


def test_the_encoder_can_be_taken_out_of_a_model(encoder: AstEncoder, tmp_path: Path) -> None:
    Model(encoder, CLASSES).save(tmp_path / "model")
    again = load_encoder(tmp_path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_scores_are_shares_or_independent(encoder: AstEncoder) -> None:
    shares = Model(encoder, CLASSES).predict_waveforms(wave())
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    model = Model(encoder, CLASSES, HeadConfig(single=False, softmax=False))
    with torch.no_grad():
        model.head.network[1].bias += 5  # type: ignore[index, union-attr]
    assert (model.predict_waveforms(wave()) > 0.9).all()


def test_padding_and_company_change_nothing(encoder: AstEncoder) -> None:
    model = Model(encoder, CLASSES)
    alone = model.predict_waveforms(wave(0.3, 1))
    batch = torch.zeros(2, 8000)
    batch[0, :2400], batch[1] = wave(0.3, 1)[0], wave(1.0, 2)[1]
    together = model.predict_waveforms(batch, torch.tensor([2400, 8000]))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_predicting_leaves_the_mode_as_it_was(encoder: AstEncoder) -> None:
    model = Model(encoder, CLASSES).train()
    model.predict_waveforms(wave())
    assert model.training
    assert encoder.blocks[0].training


def test_an_encoder_is_no_classifier(encoder: AstEncoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path / "model", "")
    with pytest.raises(UserError, match="encoder but no classifier"):
        load_model(tmp_path)


def test_folders_without_a_model(encoder: AstEncoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text('{"status": "interrupted"}')
    with pytest.raises(UserError, match="its run is interrupted"):
        load_model(tmp_path)
    for fold in ("fold-1", "fold-2"):
        Model(encoder, CLASSES).save(tmp_path / fold / "model")
    with pytest.raises(UserError, match=r"2 models \(fold-1, fold-2\); choose one"):
        load_model(tmp_path)
    assert load_model(tmp_path / "fold-2").classes == CLASSES


def test_a_model_whose_parts_do_not_fit(encoder: AstEncoder, tmp_path: Path) -> None:
    folder = Model(encoder, CLASSES).save(tmp_path / "model")
    stored = json.loads((folder / "config.json").read_text())

    def load_with(**changes: object) -> None:
        (folder / "config.json").write_text(json.dumps({**stored, **changes}))
        load_model(folder)

    with pytest.raises(UserError, match=r"of another shape: network\.1\.weight"):
        load_with(classes=["a", "b"], thresholds=[0.5, 0.5])
    with pytest.raises(UserError, match="2 thresholds for 3 classes"):
        load_with(thresholds=[0.5, 0.5])
    with pytest.raises(UserError, match="unknown option 'pol'"):
        load_with(head={"pol": "mean"})
    with pytest.raises(UserError, match="blocks 0 to 1"):
        load_with(head={"layers": [7]})
