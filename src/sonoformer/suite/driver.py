"""`run_suite`: encoders x tasks x probes, a row each, resumable by row."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sonoformer.data.keys import key
from sonoformer.encoders import PatchEncoder, load_encoder, with_config
from sonoformer.errors import UserError
from sonoformer.evaluation.metrics import Answers, joined, score
from sonoformer.evaluation.statistics import bootstrap
from sonoformer.inference.identity import fingerprint
from sonoformer.run import Run
from sonoformer.settings import to_yaml
from sonoformer.suite.config import FinetuneHead, SuiteConfig
from sonoformer.suite.floor import RATE, mel_statistics, svm_turn
from sonoformer.suite.heard import heard, record_of
from sonoformer.suite.lesson import Lesson, chance
from sonoformer.suite.listening import Listener
from sonoformer.suite.opening import Opened, open_task
from sonoformer.suite.phones import FLOORS, dense, frame_turn, mel_frames, token_frames
from sonoformer.suite.probing import PROBES
from sonoformer.suite.rows import Row, store, stored, write_tables
from sonoformer.suite.sets import choose
from sonoformer.suite.tasks import SuiteTask
from sonoformer.suite.turns import Turn
from sonoformer.training.devices import resolve_device

Progress = Callable[[int, int], None]
Answer = Callable[[Turn, int], Answers]
_FROM_PROBE = "from a probe "


@dataclass(frozen=True)
class Judged:
    """An encoder in the suite.

    Attributes:
        name: its column.
        encoder: the network.
        weights: pretrained or random.
        record: what its pretraining heard; see `heard.record_of`.
    """

    name: str
    encoder: nn.Module
    weights: str
    record: dict[str, Any] | None


def run_suite(
    encoders: Sequence[str | Path | nn.Module],
    config: SuiteConfig,
    run: Run,
    *,
    seed: int = 0,
    device: str = "auto",
    data: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Judge encoders over tasks; leaves `table.csv`, `table.json` and `table.md` in `run.folder`.

    A row that is finished is not computed again as long as weights, clips and options are the same.
    A set that is not at hand, a clip that cannot be read, an encoder that fails on a task: each is
    said in a sentence, and the rest goes on.

    Args:
        encoders: checkpoints, or encoders that follow `nn.tokens.Encoder`.
        config: the options.
        run: the folder.
        seed: of the first probe; the others follow.
        device: where features are computed.
        data: folder with sets of the user's own: `NAME.csv` or `NAME/manifest.csv`.
        cache: folder of packed sound and features; `run.folder / "cache"` by default.
        progress: called with (done, in all) while sound is packed or heard.

    Raises:
        UserError: an unknown task, or not one encoder can be loaded.
    """
    tasks = choose(config.tasks)
    work = _Work(config, run, seed, device, data, cache or run.folder / "cache", progress)
    judged = work.load(encoders)
    for task in tasks:
        work.task(task, judged)
    done = sum(row.value is not None for row in work.rows)
    run.log(f"{done} rows, {len(work.rows) - done} failed, {len(work.skipped)} tasks left out")
    run.metrics({"rows": done, "failed": len(work.rows) - done, "skipped": len(work.skipped)})
    return work.rows


class _Work:
    """One call of `run_suite`."""

    def __init__(
        self,
        config: SuiteConfig,
        run: Run,
        seed: int,
        device: str,
        data: Path | None,
        cache: Path,
        progress: Progress | None,
    ) -> None:
        self.config, self.run, self.seed, self.device = config, run, seed, device
        self.where, self.data, self.cache = resolve_device(device), data, cache
        self.progress = progress
        self.rows: list[Row] = []
        self.skipped: list[str] = []

    def load(self, encoders: Sequence[str | Path | nn.Module]) -> list[Judged]:
        """The encoders, and with `random` each again with new weights."""
        found = []
        problems = []
        names = _names(encoders)
        for name, given in zip(names, encoders, strict=True):
            try:
                encoder = given if isinstance(given, nn.Module) else load_encoder(given)
                encoder = _levelled(encoder, self.config).eval()
            except UserError as error:
                problems.append(str(error))
                self.skip(f"{name}: {error}")
                continue
            record = None if isinstance(given, nn.Module) else record_of(given)
            found.append(Judged(name, encoder, "pretrained", record))
            if self.config.random:
                found.append(Judged(name, _fresh(encoder, self.seed), "random", {"sets": []}))
        if encoders and not found:
            raise UserError(problems[0])
        return found

    def task(self, task: SuiteTask, judged: Sequence[Judged]) -> None:
        """All rows of a task."""
        try:
            opened = open_task(
                task,
                self.config.protocol,
                self.data,
                self.cache,
                problem=self.run.problem,
                progress=self.progress,
            )
        except UserError as error:
            self.skip(f"{task.name}: {error}")
            return
        if isinstance(opened, str):
            self.skip(opened)
            return
        floor = self.floors(opened) if self.config.floor else None
        for one in judged:
            for probe in self.config.probes:
                if task.framewise and probe != "linear":
                    self.skip(f"{task.name}: a class every 10 ms has a linear probe only")
                    continue
                self.row(opened, one, probe, floor)
            if self.config.finetune:
                if task.framewise:
                    self.skip(f"{task.name}: a class every 10 ms cannot be fine-tuned here")
                    continue
                for head in self.config.finetune_heads:
                    for rate in self.config.finetune_rates:
                        self.row(opened, one, titled(head, rate), floor)

    def floors(self, opened: Opened) -> float | None:
        """Measure the task's floor; the first of several is the one that stands in other rows."""
        if not opened.task.framewise:
            return self.fill(opened, _floor_row(opened, "svm"), self._svm).value
        values = []
        for name, (context, hidden) in FLOORS.items():

            def answers(opened: Opened, context: int = context, hidden: int = hidden) -> Answer:
                lesson, truth = opened.lesson(RATE), opened.truth(RATE)
                frames = mel_frames(lesson.clips.source, truth, self.config, context)
                return lambda turn, seed: frame_turn(
                    frames, truth, lesson, turn, self.config.frames, seed, hidden
                )

            row = _floor_row(opened, f"{name} on log-mels")
            values.append(self.fill(opened, row, answers).value)
        return values[0]

    def row(self, opened: Opened, one: Judged, probe: str, floor: float | None) -> None:
        """Judge an encoder on a task."""
        row = Row(
            opened.task.name,
            self.config.protocol,
            one.name,
            one.weights,
            probe,
            opened.task.metric,
            floor=floor,
            heard=heard(one.record, opened.task, self.config.protocol),
        )
        identity = fingerprint(one.encoder)

        def answers(opened: Opened) -> Answer:
            return self._answers(opened, one, probe, row.name)

        self.fill(opened, row, answers, identity)

    def fill(
        self, opened: Opened, row: Row, answers: Callable[[Opened], Answer], identity: str = ""
    ) -> Row:
        """The row with its score: found again, or computed and kept; or with what went wrong."""
        # Not what other rows are asked for, nor how they are computed.
        options = replace(
            self.config, tasks=(), probes=("linear",), floor=True, random=False, finetune=False
        )
        # A row's own rate and head are in its name.
        options = replace(options, finetune_rates=(5e-4,), finetune_heads=("norm_linear",))
        if not row.probe.startswith("finetune"):
            options = replace(options, finetune_epochs=12.0, finetune_steps=None)
        text = repr((identity, opened.data, row.name, self.seed, to_yaml(options)))
        row = replace(row, key=hashlib.blake2b(text.encode(), digest_size=12).hexdigest())
        before = stored(self.run.folder / "rows", row)
        if before is None:
            try:
                row = self._scored(opened, row, answers(opened))
                store(self.run.folder / "rows", row)
            except UserError as error:
                row = replace(row, problem=str(error))
        else:
            # The floor and what is known of the checkpoint may be newer than the row.
            row = replace(before, floor=row.floor, heard=row.heard)
        told = row.problem or f"{row.metric.replace('_', ' ')} {row}"
        self.run.log(f"{row.task}, {row.system}: {told}")
        self.rows.append(row)
        self.write()
        return row

    def write(self) -> None:
        """The tables as they stand."""
        title = "Task suite" if self.config.protocol == "fixed" else "Task suite, all folds"
        write_tables(self.run.folder, self.rows, self.skipped, title)

    def skip(self, text: str) -> None:
        """Say and remember what is left out."""
        if text not in self.skipped:
            self.skipped.append(text)
            self.run.log(text)
            self.write()

    def _scored(self, opened: Opened, row: Row, answer: Answer) -> Row:
        turns = opened.turns
        seeds = range(1 if row.probe == "svm" else self.config.seeds)
        each = [[answer(turn, self.seed + number) for turn in turns] for number in seeds]
        runs = [joined(parts) for parts in each]
        metric = opened.metric
        guesses = np.concatenate(
            [np.full(len(a), opened.commonest(t)) for t, a in zip(turns, each[0], strict=True)]
        )
        interval = bootstrap(metric, runs, resamples=self.config.resamples)
        parts = {
            turn.name: float(np.mean([score(metric, parts[i]) for parts in each]))
            for i, turn in enumerate(turns)
        }
        return replace(
            row,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            over=interval.over,
            seeds=len(runs),
            chance=chance(metric, runs[0], guesses),
            clips=opened.clips,
            tested=len(runs[0]),
            classes=len(runs[0].classes),
            copies=sum(turn.copies for turn in turns),
            parts=parts,
        )

    def _svm(self, opened: Opened) -> Answer:
        lesson = opened.lesson(RATE)
        features = mel_statistics(lesson.clips.source, self.config)
        return lambda turn, seed: lesson.answers(turn, svm_turn(features, lesson, turn, seed))

    def _answers(self, opened: Opened, one: Judged, probe: str, name: str) -> Answer:
        encoder: Any = one.encoder
        lesson = opened.lesson(encoder.sample_rate)
        if probe.startswith("finetune"):
            return self._finetuned(one, lesson, name, probe)
        if opened.task.framewise:
            encoder = dense(encoder, self.config.frame_stride)
        listener = Listener(
            encoder,
            lesson.clips.source,
            lesson.data,
            self.config,
            self.cache / "features",
            self.where,
            self.progress,
        )
        if opened.task.framewise:
            truth = opened.truth(encoder.sample_rate)
            frames = token_frames(listener, truth)
            return lambda turn, seed: frame_turn(
                frames, truth, lesson, turn, self.config.frames, seed
            )
        judge = PROBES[probe]  # type: ignore[index]
        return lambda turn, seed: lesson.answers(turn, judge(listener, lesson, turn, seed))

    def _finetuned(self, one: Judged, lesson: Lesson, name: str, probe: str) -> Answer:
        # Imports the training engine, which frozen encoders do without.
        from sonoformer.suite.finetuning import finetune_turn, recipe

        head: FinetuneHead = "probe" if _FROM_PROBE in probe else "norm_linear"
        options = recipe(
            self.config,
            lesson.task.metric,
            float(probe.split()[-1]),
            head,
            pretrained=one.weights == "pretrained",
        )

        def answer(turn: Turn, seed: int) -> Answers:
            place = f"{turn.name}-seed-{seed}".replace("/", "_").replace(" ", "-")
            return finetune_turn(
                one.encoder,
                lesson,
                turn,
                options,
                self.run.folder / "finetune" / name / place,
                seed=seed,
                device=self.device,
                cache=self.cache / f"packed-{lesson.clips.source.sample_rate}",
                most=self.config.finetune_steps,
            )

        return answer


def titled(head: FinetuneHead, rate: float) -> str:
    """Name of a fine-tuning's column."""
    return f"finetune {_FROM_PROBE if head == 'probe' else ''}{rate:g}"


def _floor_row(opened: Opened, name: str) -> Row:
    return Row(opened.task.name, opened.protocol, "", "none", name, opened.task.metric, heard="no")


def _names(encoders: Sequence[str | Path | nn.Module]) -> list[str]:
    """A short name each: the folder's, or the whole path where two are alike."""
    short = [
        type(one).__name__ if isinstance(one, nn.Module) else Path(one).resolve().name
        for one in encoders
    ]
    counts = Counter(short)
    long = [
        f"{name}-{i}" if isinstance(one, nn.Module) else str(one)
        for i, (name, one) in enumerate(zip(short, encoders, strict=True))
    ]
    return [s if counts[s] == 1 else n for s, n in zip(short, long, strict=True)]


def _levelled(encoder: nn.Module, config: SuiteConfig) -> nn.Module:
    if config.level == "checkpoint":
        return encoder
    if not isinstance(encoder, PatchEncoder):
        raise UserError("level: this encoder brings its own; leave the option away")
    return with_config(encoder, front=replace(encoder.config.front, level=config.level))


def _fresh(encoder: Any, seed: int) -> nn.Module:
    """The same network, front end and normalisation with new weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "random weights"))
        made: nn.Module = type(encoder)(copy.deepcopy(encoder.config))
    return made.eval()
