"""All baselines of a detector: fitted on its training recordings, heard on any others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from sonoformer.errors import AudioError
from sonoformer.run import Run
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.cnn import cnn_config, fit_cnn
from sonoformer.tasks.detection.baselines.energy import WHOLE, Band, class_bands, fit_energy
from sonoformer.tasks.detection.baselines.hearing import Hearing, Levels, Minute
from sonoformer.tasks.detection.baselines.learned import fit_logistic, fit_trees
from sonoformer.tasks.detection.baselines.lesson import Problem, training_cells
from sonoformer.tasks.detection.lesson import truth_of
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scoring import Scored, frame_scores
from sonoformer.training.devices import resolve_device, resolve_precision

TITLES = {
    "energy": "Energy",
    "band": "Energy in the class's band",
    "logistic": "Logistic regression on log-mels",
    "trees": "Boosted trees on log-mels",
    "cnn": "Small CNN",
}
"""Name of each baseline -> what it is called in tables, the simplest first."""

Scorer = Callable[[Minute], Levels]
"""A minute of sound -> scores `(cells, classes)` in [0, 1]."""


@dataclass(frozen=True)
class Baselines:
    """Systems that give scores on a detector's frames.

    Attributes:
        hearing: how all but the network hear.
        scorers: name -> system.
        network: the small CNN, a detector like the one it is compared with.
        config: the options, for windows and batches.
        bands: Hz that the band-limited detector looks at, by class.
    """

    hearing: Hearing
    scorers: Mapping[str, Scorer]
    network: Detector
    config: FinetuneConfig
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def scores(
        self, clips: Clips, *, device: torch.device | str = "cpu", problem: Problem | None = None
    ) -> dict[str, Scored]:
        """Frame scores of recordings by every system, as the detector's `frame_scores`.

        Args:
            clips: the recordings; a minute of each is in memory at a time.
            device: where the network computes.
            problem: called with (path, reason) for a recording that cannot be read.
        """
        tracks: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.scorers}
        for item in range(len(clips)):
            parts: dict[str, list[NDArray[np.float32]]] = {
                name: [np.zeros((0, len(self.network.classes)), np.float32)] for name in tracks
            }
            try:
                for minute in self.hearing.minutes(clips.source, item):
                    for name, scorer in self.scorers.items():
                        parts[name].append(scorer(minute))
            except AudioError as error:
                if problem is not None:
                    problem(str(error.path), error.reason)
            for name, heard in parts.items():
                tracks[name].append(np.concatenate(heard))
        grid = self.hearing.grid
        start = grid.first - grid.step / 2
        found = {name: Scored(track, start, grid.step) for name, track in tracks.items()}
        device = torch.device(device)
        found["cnn"] = frame_scores(
            self.network,
            clips,
            seconds=self.config.seconds,
            overlap=self.config.events.overlap,
            batch_size=2 * self.config.train.batch_size,
            device=device,
            precision=resolve_precision(self.config.train.precision, device),
            problem=problem,
        )
        return {name: found[name] for name in TITLES}


def fit_baselines(
    model: Detector,
    train: Clips,
    validation: Clips | None,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int,
    device: str = "cpu",
    bar: bool | None = None,
) -> Baselines:
    """Fit every baseline on what is known of a detector's training recordings.

    Args:
        model: the detector; gives classes, frames and, to the CNN, its spectrograms.
        train: the recordings that it was trained on.
        validation: those that were watched, for the CNN.
        config: its options.
        run: its run; the CNN's training goes into a run of its own inside it.
        seed: of everything random.
        device: where the CNN trains.
        bar: show a progress bar; on a terminal only by default.

    Raises:
        UserError: no event in the training recordings, or nothing that can be read.
    """
    hearing = Hearing(model.grid)
    truth = truth_of(train, model.classes, config)
    cells = training_cells(hearing, train.source, truth, seed=seed, problem=run.problem)
    run.log(f"baselines: {len(cells)} training cells")
    bands = class_bands(hearing, cells, truth)
    scorers: dict[str, Scorer] = {
        "energy": fit_energy(cells, [WHOLE] * len(model.classes)),
        "band": fit_energy(cells, bands),
        "logistic": fit_logistic(cells, seed),
        "trees": fit_trees(cells, seed),
    }
    network = _network(model, train, validation, config, run, seed=seed, device=device, bar=bar)
    shown = {name: _hertz(hearing, band) for name, band in zip(model.classes, bands, strict=True)}
    return Baselines(hearing, scorers, network, config, shown)


def _network(
    model: Detector,
    train: Clips,
    validation: Clips | None,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int,
    device: str,
    bar: bool | None,
) -> Detector:
    """The CNN, trained in a run inside the detector's, which a resumed one continues."""
    folder = run.folder / "cnn"
    started = Run.exists(folder)
    with Run.start(folder, run.verb, cnn_config(config), seed, resume=started) as inner:
        inner.echo = None if run.echo is None else (lambda text: run.log(f"cnn: {text}"))
        return fit_cnn(
            model,
            train,
            validation,
            config,
            inner,
            seed=seed,
            device=str(resolve_device(device)),
            resume=started,
            bar=bar,
        )


def _hertz(hearing: Hearing, band: Band) -> tuple[float, float]:
    hertz = hearing.hertz()
    return float(hertz[band[0], 0]), float(hertz[band[1] - 1, 1])
