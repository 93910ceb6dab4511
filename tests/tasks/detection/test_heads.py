"""Frame heads: their formulas, padding, gradients, clip scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.evaluation.events.calibration import Calibration, ClassCalibration
from sonoformer.evaluation.events.post import ClassPost
from sonoformer.nn.tokens import Tokens
from sonoformer.tasks.detection.heads import FrameHead, FrameKind, Frames
from sonoformer.tasks.detection.learner import Tagger
from sonoformer.tasks.detection.model import Detector, start_from
from sonoformer.tasks.heads import HeadConfig
from sonoformer.tasks.model import load_model

BATCH, ROWS, COLUMNS, DIM, CLASSES = 2, 3, 5, 4, 2
KINDS: list[FrameKind] = ["mean", "concat", "full"]


def tokens(valid: Tensor | None = None) -> Tokens:
    """Tokens with two in front that belong to no place."""
    x = torch.randn(BATCH, 2 + ROWS * COLUMNS, DIM, generator=torch.Generator().manual_seed(0))
    if valid is None:
        valid = torch.ones(BATCH, COLUMNS, dtype=torch.bool)
    return Tokens(x, (ROWS, COLUMNS), 2, valid.repeat(1, ROWS), 0.16)


def head(kind: FrameKind, attention: bool = False) -> FrameHead:
    torch.manual_seed(1)
    made = FrameHead(DIM, ROWS, CLASSES, kind, attention)
    torch.nn.init.normal_(made.network.weight)
    torch.nn.init.normal_(made.network.bias)
    return made


def test_mean_is_the_mean_over_rows_of_a_linear_layer() -> None:
    made, given = head("mean"), tokens()
    found = made(given).logits
    assert found.shape == (BATCH, COLUMNS, CLASSES)
    for b in range(BATCH):
        for t in range(COLUMNS):
            rows = [given.x[b, 2 + f * COLUMNS + t] for f in range(ROWS)]
            each = [made.network.weight @ row + made.network.bias for row in rows]
            assert torch.allclose(found[b, t], sum(each) / ROWS, atol=1e-6)  # type: ignore[arg-type]


def test_concat_reads_the_rows_of_a_column_from_low_to_high() -> None:
    made, given = head("concat"), tokens()
    found = made(given).logits
    for t in range(COLUMNS):
        column = torch.cat([given.x[0, 2 + f * COLUMNS + t] for f in range(ROWS)])
        assert torch.allclose(found[0, t], made.network(column), atol=1e-6)


def test_full_keeps_rows_and_one_row_is_enough() -> None:
    made, given = head("full"), tokens()
    found = made(given)
    assert found.cells is not None
    assert found.cells.shape == (BATCH, COLUMNS, ROWS, CLASSES)
    assert torch.allclose(found.cells[1, 3, 2], made.network(given.x[1, 2 + 2 * COLUMNS + 3]))
    assert torch.allclose(found.logits, found.cells.logsumexp(2), atol=1e-6)
    assert (found.logits >= found.cells.amax(2)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_validity_is_that_of_columns(kind: FrameKind) -> None:
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    found = head(kind)(tokens(valid))
    assert torch.equal(found.valid, valid)
    assert torch.allclose(found.logits[0], head(kind)(tokens()).logits[0], atol=1e-6)


def test_the_clip_score_is_the_highest_real_column() -> None:
    logits = torch.tensor([[[0.0], [2.0], [9.0]]])
    frames = Frames(logits, torch.tensor([[True, True, False]]))
    assert frames.clip().tolist() == [[2.0]]


def test_attention_weighs_probabilities() -> None:
    logits = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(3)) * 3
    weights = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(4))
    valid = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    found = Frames(logits, valid, None, weights).clip().sigmoid()
    for b, count in enumerate((6, 4)):
        share = weights[b, :count].softmax(0)
        assert torch.allclose(found[b], (share * logits[b, :count].sigmoid()).sum(0), atol=1e-6)
    # Far out, where probabilities are 0 or 1 in 32 bits, the logit is still right.
    far = Frames(torch.full((1, 2, 1), -200.0), valid[:1, :2], None, torch.zeros(1, 2, 1))
    assert far.clip().item() == pytest.approx(-200.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", [False, True])
def test_gradients(kind: FrameKind, attention: bool) -> None:
    made = head(kind, attention).double()
    given = tokens(torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool))

    def run(weight: Tensor, x: Tensor) -> Tensor:
        own = Tokens(x, given.grid, 2, given.valid, 0.16)
        found = torch.func.functional_call(made, {"network.weight": weight}, (own,))
        real = found.logits[found.valid]
        return torch.cat([real.flatten(), found.clip().flatten()])

    weight = made.network.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(run, (weight, given.x.double().requires_grad_()))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_score(encoder: AstEncoder, kind: FrameKind) -> None:
    name = f"frames_{kind}"
    model = Detector(encoder, ("a", "b"), HeadConfig(name, single=False, softmax=False)).eval()  # type: ignore[arg-type]
    wave = torch.randn(1, 12000, generator=torch.Generator().manual_seed(0)) * 0.1
    alone, _ = model.frame_logits(wave)
    padded = torch.nn.functional.pad(wave, (0, 9000))
    batch = torch.cat([padded, torch.randn(1, 21000) * 0.1])
    together, _ = model.frame_logits(batch, torch.tensor([12000, 21000]))
    count = model.grid.count(12000)
    assert alone.shape[1] == count
    assert torch.allclose(together[0, :count], alone[0], atol=1e-5)
    clip = model.logits(batch, torch.tensor([12000, 21000]))
    assert torch.allclose(clip[0], alone[0].amax(0), atol=1e-5)


def test_what_is_saved_comes_back(encoder: AstEncoder, tmp_path) -> None:
    config = HeadConfig("frames_concat", layers=(0, 1), single=False, softmax=False, attention=True)
    model = Detector(encoder, ("a", "b/c"), config).eval()
    model.seconds = 3.5
    model.post = model.post.with_classes({"a": ClassPost(median=0.4, high=0.7, low=0.3)})
    model.calibration = Calibration({"b/c": ClassCalibration(temperature=2.0)})
    again = load_model(model.save(tmp_path / "model"))
    assert isinstance(again, Detector)
    assert again.calibration == model.calibration
    scores = again.frame_scores(np.array([[1.0, 1.0]], np.float32))
    assert scores[0] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-0.5))])
    assert (again.seconds, again.post, again.config) == (3.5, model.post, config)
    wave = torch.randn(2, 8000) * 0.1
    assert torch.equal(again.frame_logits(wave)[0], model.frame_logits(wave)[0])
    assert torch.equal(again.predict_waveforms(wave), model.predict_waveforms(wave))


def test_a_damaged_detector_is_a_sentence(encoder: AstEncoder, tmp_path) -> None:
    folder = Detector(encoder, ("a",)).save(tmp_path / "model")
    file = folder / "config.json"
    text = file.read_text()
    file.write_text(text.replace('"seconds": 10.0', '"seconds": "ten"'))
    with pytest.raises(UserError, match="detection should hold seconds"):
        load_model(folder)
    file.write_text(text.replace('"median": 0.0', '"median": -1.0'))
    with pytest.raises(UserError, match="median"):
        load_model(folder)


def test_rows_of_another_head_are_taken_by_name(encoder: AstEncoder) -> None:
    config = HeadConfig("frames_mean", single=False, softmax=False)
    other = Detector(encoder, ("x", "a"), config)
    torch.nn.init.normal_(other.head.network.weight)  # type: ignore[union-attr,arg-type]
    model = Detector(encoder, ("a", "b"), config)
    before = model.head.network.weight.clone()  # type: ignore[union-attr,operator]
    assert start_from(model.head, model.classes, other) == ["a"]  # type: ignore[arg-type]
    assert torch.equal(model.head.network.weight[0], other.head.network.weight[1])  # type: ignore[union-attr,index]
    assert torch.equal(model.head.network.weight[1], before[1])  # type: ignore[union-attr,index]
    wider = Detector(encoder, ("a",), HeadConfig("frames_concat", single=False, softmax=False))
    assert start_from(wider.head, wider.classes, other) == []  # type: ignore[arg-type]


def test_the_loss_is_cross_entropy_over_what_is_known(encoder: AstEncoder) -> None:
    from sonoformer.data.batch import Batch

    model = Detector(encoder, ("a", "b")).eval()
    torch.nn.init.normal_(model.head.network.weight)  # type: ignore[union-attr,arg-type]
    learner = Tagger(model, positive_weight=torch.tensor([3.0, 1.0])).eval()
    wave = torch.randn(2, 16000) * 0.1
    lengths = torch.tensor([16000, 9000])
    columns = model.grid.count(16000)
    target = (torch.rand(2, columns, 2) > 0.5).float()
    known = torch.rand(2, columns, 2) > 0.3
    batch = Batch(wave, lengths, torch.arange(2), target, known)
    loss, _ = learner.loss(batch)
    logits = model.frames(wave, lengths).logits.detach()
    total, count = 0.0, 0
    for b, real in enumerate((columns, model.grid.count(9000))):
        for t in range(real):
            for c, weight in enumerate((3.0, 1.0)):
                if known[b, t, c]:
                    p = logits[b, t, c]
                    y = target[b, t, c]
                    total -= float(weight * y * F.logsigmoid(p) + (1 - y) * F.logsigmoid(-p))
                    count += 1
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    assert int(learner.evaluate(batch)["loss"][1]) == count
