"""The folder a command leaves behind: what was asked, where it ran, what came out.

```
runs/frogs/
  config.yaml        every option, resolved; usable again as a recipe
  run.json           verb, seed, command, status, times, fingerprint of the data
  environment.json   versions and machine
  log.txt            one line an event, with the clock
  metrics.json       results, merged as they come
  metrics.csv        curves (training), a row per logged step
  problems.csv       files that were skipped, and why
  checkpoints/       last.ckpt (and best.ckpt)
```
"""

from __future__ import annotations

import csv
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from sonoformer import __version__
from sonoformer.errors import UserError
from sonoformer.files import read_json, write_json, write_text, writing
from sonoformer.settings import plain, read_yaml, to_yaml

# Options that decide how a run is carried out or how long it lasts, not what a step computes.
CHANGEABLE = frozenset(
    {
        *("workers", "checkpoint_minutes", "device", "tensorboard", "progress", "steps", "epochs"),
        *("strategy", "checkpointing", "budget"),
    }
)
_PACKAGES = ("numpy", "torch", "lightning", "soundfile", "soxr", "polars")
_LOCK = ".lock"


# What a run writes before it has any result.
_NOTES = {"config.yaml", "environment.json", "run.json", "log.txt", "problems.csv", ".lock"}


class Run:
    """One command's folder. Make it with `Run.start`; it is also a context manager.

    As a context manager it records how the command ended: finished, interrupted or failed.

    Attributes:
        folder: where everything goes.
        verb: the command's name.
        seed: the seed of every random choice.
        resumed: whether an earlier run in this folder is being continued.
        echo: called with each logged line besides `log.txt`; prints to stderr unless replaced.
    """

    def __init__(self, folder: Path, verb: str, seed: int, resumed: bool) -> None:
        self.folder, self.verb, self.seed, self.resumed = folder, verb, seed, resumed
        self.echo: Callable[[str], None] | None = _to_stderr
        self._lock = _locked(folder)
        self._began = time.monotonic()
        self._problems = _read_problems(folder / "problems.csv") if resumed else {}

    @classmethod
    def start(
        cls,
        folder: str | Path,
        verb: str,
        config: Any,
        seed: int,
        resume: bool = False,
        overwrite: bool = False,
        may_change: frozenset[str] = CHANGEABLE,
    ) -> Run:
        """Open the folder of a new run, or of the run that is to be continued.

        Args:
            folder: where the run goes; made when it does not exist.
            verb: the command's name, such as `pretrain`.
            config: the resolved options, a dataclass or a mapping.
            seed: the seed of every random choice.
            resume: continue the run in `folder`.
            overwrite: throw away an earlier run in `folder` (never a folder that holds none).
            may_change: options that may differ when a run is continued, by their last name.

        Raises:
            UserError: the folder is not empty and `resume` was not asked for; there is nothing to
                resume; the run to be continued was started with other options; another process
                is writing into the folder.
        """
        folder = Path(folder)
        held = _contents(folder)
        if resume:
            differences = _check_same(folder, verb, config, seed, may_change)
        elif held and not (cls.exists(folder) and (overwrite or _came_to_nothing(held))):
            raise UserError(_refusal(folder, cls.exists(folder)))
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder, verb, seed, resumed=resume)
        if resume:
            run._continue(differences)
        else:
            _clear(held)
            run._begin()
        write_text(folder / "config.yaml", to_yaml(config))
        return run

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether `folder` holds a run that could be resumed."""
        return (Path(folder) / "run.json").is_file()

    @property
    def checkpoints(self) -> Path:
        """The folder of the training checkpoints."""
        return self.folder / "checkpoints"

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The skipped files so far: path and reason."""
        return list(self._problems.items())

    def log(self, text: str, *, show: bool = True) -> None:
        """Add a line to `log.txt`, and show it unless `show` is false."""
        clock = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        path = self.folder / "log.txt"
        with writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(f"{clock}  {text}\n")
        if show and self.echo is not None:
            self.echo(text)

    def problem(self, path: str | Path, reason: str) -> None:
        """List a file that was skipped; each path is listed once."""
        if str(path) in self._problems:
            return
        table = self.folder / "problems.csv"
        fresh = not table.exists()
        with writing(table), open(table, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(("path", "reason"))
            writer.writerow((str(path), reason))
        self._problems[str(path)] = reason

    def forget_problems(self) -> None:
        """Empty the list: files that an earlier part of the run skipped are looked at again."""
        self._problems.clear()
        (self.folder / "problems.csv").unlink(missing_ok=True)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Merge `values` into `metrics.json`; nested mappings are merged key by key."""
        path = self.folder / "metrics.json"
        write_json(path, _merged(read_json(path) if path.exists() else {}, values))

    def data(self, fingerprint: str) -> None:
        """Record what data the run uses; when it is continued, it must be the same.

        Raises:
            UserError: the run was started on other data.
        """
        before = read_json(self.folder / "run.json").get("data")
        if self.resumed and before is not None and before != fingerprint:
            raise UserError(
                f"{self.folder}: the data changed since this run was started "
                f"(fingerprint {before}, now {fingerprint}); start a new run in another --out"
            )
        self._update(data=fingerprint)

    def finish(self, status: str = "finished") -> None:
        """Record how the command ended, and list the files that were skipped."""
        if self._problems:
            self.log(_problem_report(self.problems))
        seconds = round(time.monotonic() - self._began, 1)
        self._update(status=status, ended=_now(), seconds=seconds, problems=len(self._problems))
        self.log(f"{self.verb} {status} after {seconds:.0f} s: {self.folder}", show=False)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
            return
        self.log(f"{type(error).__name__}: {error}", show=False)
        # By a signal: commands exit with 128 + its number, as shells do.
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
        self.finish("interrupted" if stopped else "failed")

    def _begin(self) -> None:
        write_json(self.folder / "environment.json", environment())
        start = {"verb": self.verb, "seed": self.seed, "command": sys.argv, "status": "running"}
        write_json(self.folder / "run.json", {**start, "started": _now()})
        self.log(f"{self.verb} started, seed {self.seed}", show=False)

    def _continue(self, differences: list[str]) -> None:
        self.log(f"{self.verb} continued", show=False)
        for line in differences:
            self.log(f"changed option {line}")
        before = _environment_of(self.folder)
        for name, value in environment().items():
            if before.get(name, value) != value:
                self.log(
                    f"{name} was {before[name]} and is {value} now: the continued run may differ "
                    "in the last bits from one that was never stopped"
                )
        self._update(status="running")

    def _update(self, **values: Any) -> None:
        path = self.folder / "run.json"
        write_json(path, {**read_json(path), **values})


def environment() -> dict[str, Any]:
    """Versions and machine, found without importing any of the packages."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "sonoformer": __version__,
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version is not None},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def _processor() -> str:
    """The processor's name; its family and model too where the kernel tells, as makers use a name
    for several generations, of which some compute bf16 and some do not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    pairs = (line.partition(":") for line in lines)
    found = {name.strip(): value.strip() for name, _, value in pairs}
    numbers = [f"{name} {found[name]}" for name in ("cpu family", "model") if name in found]
    return ", ".join([found.get("model name", platform.processor()), *numbers])


def differing(before: Any, after: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The options that differ, by dotted name; a missing one counts as None."""
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        left = before if isinstance(before, Mapping) else {}
        right = after if isinstance(after, Mapping) else {}
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys([*left, *right]):
            name = f"{prefix}.{key}" if prefix else str(key)
            found |= differing(left.get(key), right.get(key), name)
        return found
    return {} if before == after else {prefix: (before, after)}


def _check_same(
    folder: Path, verb: str, config: Any, seed: int, may_change: frozenset[str]
) -> list[str]:
    if not Run.exists(folder):
        raise UserError(f"{folder}: holds no run to resume; leave out --resume to start one there")
    started = read_json(folder / "run.json")
    if started.get("verb") != verb:
        raise UserError(
            f"{folder}: holds a run of `{started.get('verb')}`, which `{verb}` cannot resume; "
            "choose another --out"
        )
    # Both sides as YAML gives them back, so that tuples and lists compare equal.
    before = {"seed": started.get("seed"), **read_yaml(folder / "config.yaml")}
    now = {"seed": seed, **_as_read(config)}
    changed = differing(before, now)
    lines = {name: f"{name}: {old!r} -> {new!r}" for name, (old, new) in changed.items()}
    refused = [line for name, line in lines.items() if name.split(".")[-1] not in may_change]
    if refused:
        raise UserError(
            f"{folder}: the run was started with other options ({'; '.join(refused)}); "
            "resume it with the same ones, or choose another --out"
        )
    return list(lines.values())


def _as_read(config: Any) -> dict[str, Any]:
    def lists(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): lists(v) for k, v in value.items()}
        return [lists(v) for v in value] if isinstance(value, list | tuple) else value

    return lists(plain(config))


def _refusal(folder: Path, is_run: bool) -> str:
    if is_run:
        return (
            f"{folder}: already holds a run; continue it with --resume, replace it with "
            "--overwrite, or choose another --out"
        )
    return f"{folder}: is not empty; choose another --out"


def _came_to_nothing(held: list[Path]) -> bool:
    """Whether a run ended before it left any result, so that a corrected command may replace it."""
    named = {path.name for path in held}
    if not named <= _NOTES:
        return False
    state = next(path for path in held if path.name == "run.json")
    return bool(read_json(state).get("status") == "failed")


def _contents(folder: Path) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another --out")
    return [p for p in folder.iterdir() if p.name != _LOCK] if folder.exists() else []


def _clear(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _locked(folder: Path) -> TextIO | None:
    """Hold the folder while this process lives, so that two runs never write into one folder."""
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks of this kind
        return None
    file = open(folder / _LOCK, "w", encoding="utf-8")  # noqa: SIM115 (held open on purpose)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(
            f"{folder}: another process is running there; wait for it or choose another --out"
        ) from None
    except OSError:  # a network file system without locks
        file.close()
        return None
    return file


def _read_problems(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def _problem_report(problems: list[tuple[str, str]], shown: int = 10) -> str:
    count = len(problems)
    lines = [f"{count} file{'s were' if count > 1 else ' was'} skipped (see problems.csv):"]
    lines += [f"  {path}: {reason}" for path, reason in problems[:shown]]
    return "\n".join(lines + ([f"  and {count - shown} more"] if count > shown else []))


def _environment_of(folder: Path) -> dict[str, Any]:
    path = folder / "environment.json"
    return read_json(path) if path.exists() else {}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
