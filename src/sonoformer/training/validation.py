"""What a model scores over a validation set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.nn.reduce import all_sum, alone
from sonoformer.training.devices import autocast
from sonoformer.training.learner import LearnerProtocol
from sonoformer.training.processes import gathered


class Stopped(Exception):  # noqa: N818 (no error: a request)
    """Evaluation was asked to stop before its end."""


def evaluate(
    learner: LearnerProtocol,
    loader: Iterable[Batch],
    device: torch.device,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    stop: Callable[[], bool] | None = None,
    problem: Callable[[str, str], None] | None = None,
) -> dict[str, float]:
    """Every metric of `learner.evaluate` as sum / count over all batches of all processes.

    The model is put into evaluation mode and each of its parts back into its own, and torch's
    random state is left as it was, so that evaluating never moves a training run. A metric that
    counted nothing is NaN.

    Args:
        learner: the model, on `device`.
        loader: the batches; in distributed training each process brings its own share.
        device: where to compute.
        precision: as the model is trained.
        stop: asked before each batch; when it answers true, `Stopped` is raised.
        problem: called with path and reason of each recording that was left out.
    """
    assert isinstance(learner, nn.Module)
    wide = torch.float32 if device.type == "mps" else torch.float64
    totals: dict[str, Tensor] = {}
    # Part by part, because a part that is frozen may stay in evaluation mode while others train.
    training = [part for part in learner.modules() if part.training]
    learner.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            with torch.no_grad(), alone(), autocast(precision, device):
                for batch in loader:
                    if stop is not None and stop():
                        raise Stopped
                    if problem is not None:
                        list_problems(batch, problem)
                    for name, (total, count) in learner.evaluate(batch.to(device)).items():
                        pair = torch.stack([_scalar(v, device, wide) for v in (total, count)])
                        totals[name] = totals[name] + pair if name in totals else pair
    finally:
        for part in training:
            part.training = True
    return _means(totals, device, wide)


def list_problems(batch: Batch, problem: Callable[[str, str], None]) -> None:
    """Call `problem` with path and reason of each recording of the batch that cannot be read."""
    for text in batch.problems:
        path, _, reason = text.partition(": ")
        problem(path, reason)


def _scalar(value: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return value.detach().to(device, dtype).reshape(())


def _means(totals: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    # A process that had no batch of its own knows no names.
    names = sorted(set().union(*gathered(list(totals))))
    if not names:
        return {}
    nothing = torch.zeros(2, device=device, dtype=dtype)
    table = all_sum(torch.stack([totals.get(name, nothing) for name in names]))
    means = (table[:, 0] / table[:, 1]).tolist()
    return dict(zip(names, means, strict=True))
