"""The floor: what a classifier knows that has learned nothing from other sound.

A support vector machine with a Gaussian kernel on statistics of the log-mel spectrogram, the clip's
level removed. A pretrained encoder that does not beat it is not worth its weights.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoformer.data.sources import ClipSource
from sonoformer.errors import UserError
from sonoformer.evaluation.inner import inner_folds
from sonoformer.spectral import FbankConfig, KaldiFbank
from sonoformer.suite.config import SuiteConfig
from sonoformer.suite.lesson import Lesson
from sonoformer.suite.listening import batches
from sonoformer.suite.turns import Turn

Matrix = NDArray[np.float32]
RATE = 16000
"""Hz at which the floor listens."""
_BANK = FbankConfig(n_mels=64, sample_rate=RATE)
_WIDTH = 6 * _BANK.n_mels
# Statistics of the whole clip, or with those of its thirds; which is better depends on the task.
_CHOICES = list(product((_WIDTH // 2, _WIDTH), (1.0, 10.0, 100.0)))
_FOLDS = 4


def mel_statistics(source: ClipSource, config: SuiteConfig) -> Matrix:
    """`(clips, 384)`: mean, standard deviation and mean step over time of 64 log-mels, and their
    means over the first, middle and last third.

    The mean over all of a clip's log-mels is taken away first, so that loudness says nothing.
    """
    bank = KaldiFbank(_BANK)
    found = np.zeros((len(source), _WIDTH), np.float32)
    with torch.inference_mode():
        for batch in batches(source, config):
            spec, lengths = bank(batch.wave, batch.lengths)
            for i, index in enumerate(batch.index.tolist()):
                found[index] = _statistics(spec[i, : int(lengths[i])]).numpy()
    return found


def _statistics(mels: Tensor) -> Tensor:
    """`(frames, mels)` -> `(6 x mels,)`."""
    mels = mels - mels.mean()
    mean = mels.mean(0)
    step = mels.diff(dim=0).abs().mean(0) if len(mels) > 1 else torch.zeros_like(mean)
    # Of one or two frames a third is empty: it is as the whole.
    thirds = [part.mean(0) if len(part) else mean for part in mels.tensor_split(3)]
    return torch.cat([mean, mels.std(0, correction=0), step, *thirds])


def svm_turn(features: Matrix, lesson: Lesson, turn: Turn, seed: int) -> Matrix:
    """Scores `(test clips, classes)`, larger for the likelier.

    The cost, and whether thirds are heard, are chosen inside the training clips.

    Raises:
        UserError: scikit-learn is not installed.
    """
    truth = lesson.targets.argmax(1)
    balanced = lesson.task.metric == "balanced_accuracy"
    fold = inner_folds(lesson.targets[turn.train], lesson.inner(turn), _FOLDS, seed)
    weight = lesson.weight(turn)
    share = np.ones(len(turn.train)) if weight is None else weight
    right = dict.fromkeys(_CHOICES, 0.0)
    for part in range(int(fold.max()) + 1):
        kept, held = turn.train[fold != part], turn.train[fold == part]
        if len(np.unique(truth[kept])) < 2:
            continue
        for width, cost in _CHOICES:
            model = _machine(cost, balanced).fit(features[kept, :width], truth[kept])
            hit = model.predict(features[held, :width]) == truth[held]
            right[width, cost] += float((hit * share[fold == part]).sum())
    width, cost = max(_CHOICES, key=lambda choice: right[choice])
    model = _machine(cost, balanced).fit(features[turn.train, :width], truth[turn.train])
    scores = np.full((len(turn.test), len(lesson.classes)), -1e9, np.float64)
    decided = model.decision_function(features[turn.test, :width])
    known = model.classes_
    scores[:, known] = np.stack([-decided, decided], 1) if len(known) == 2 else decided
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def _machine(cost: float, balanced: bool) -> Any:
    try:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC
    except ImportError:
        raise UserError(
            "the floor needs scikit-learn: pip install 'sonoformer[train]', or leave the floor out "
            "by --no-floor"
        ) from None
    return make_pipeline(
        StandardScaler(),
        SVC(C=cost, class_weight="balanced" if balanced else None, decision_function_shape="ovr"),
    )
