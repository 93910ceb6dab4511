"""Damaged checkpoints of every kind, read by everything that reads checkpoints.

    python -m tests.fuzz.checkpoints --count 10000 --seed 0
    python -m tests.fuzz.checkpoints --seed 0 --only 4711

Each iteration takes a small valid checkpoint, damages it in one to three ways that its format
suggests, and reads it. It must end in a sentence that names the path, or in a model that computes;
anything else is a failure: another exception, a crash of the interpreter, ten seconds without an
answer, code of the file that runs, anything written, gigabytes of memory. All follows from the seed
and the iteration's number; `--only` repeats one, and shows the traceback. Iterations run in worker
processes, so that a crash names its iteration. Exits 1 if anything failed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1000
_PATIENCE = 10.0


def run_one(
    seed: int, number: int, root: Path, tell: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """One iteration: its mutations and reader, which `tell` is given first, and its outcome."""
    from tests.fuzz import cases, judge

    rng = random.Random(f"{seed}/{number}")
    case = cases.draw(rng)
    before, after = _mutations()
    usual = [name for name in (*before, *after) if _fits(name, case)]
    # Settings are many, and most other damage hides what they do.
    weights = [4 if name == "settings" else 1 for name in usual]
    drawn = rng.choices(usual, weights, k=rng.choice([1, 1, 1, 2, 3]))
    names = sorted(drawn, key=usual.index)
    folder = root / f"case-{number}"
    told = {"kind": f"{case.kind}, {case.container}", "mutations": names}
    try:
        for name in names:
            if name in before:
                before[name](case, rng)
        path = case.write(folder)
        for name in names:
            if name in after:
                after[name](folder, rng)
        reader = rng.choice(list(judge.READERS))
        if reader == "read_published" and case.kind.startswith("our"):
            reader = "load_encoder"
        told["reader"] = reader
        tell(told)
        return {**told, "outcome": judge.read(reader, path, case.hints)}
    except judge.ForbiddenError as failure:
        return {**told, "failure": str(failure), "trace": _trace(failure)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for left in root.glob("fuzz_canary*"):
            left.unlink()


def _mutations() -> tuple[dict[str, Callable[..., None]], dict[str, Callable[..., None]]]:
    """Mutations of a checkpoint before it is written, and of its files."""
    from tests.fuzz import configs, containers, pickles, tensors

    before = {
        "keys": tensors.keys,
        "shapes": tensors.shapes,
        "kinds": tensors.kinds,
        "values": tensors.values,
        "wide views": tensors.wide,
        "settings": configs.settings,
        "wrappers": tensors.wrappers,
        # Last, as what it makes can hardly be changed.
        "odd tensors": tensors.oddities,
    }
    after = {
        "JSON text": configs.texts,
        "index": configs.index,
        "pickle": pickles.mutate,
        "pickle again": pickles.mutate,
        "zip": containers.archive,
        "header": containers.header,
        "cut": containers.cut,
        "flips": containers.flips,
        "other file": containers.others,
    }
    return before, after


def _fits(name: str, case: Any) -> bool:
    """Whether a mutation does anything to a kind of checkpoint."""
    wanted = {
        "wide views": case.pickled,
        "odd tensors": case.pickled,
        "wrappers": case.pickled,
        "pickle": case.pickled,
        "pickle again": case.pickled,
        "zip": case.container == "zip",
        "header": not case.pickled,
        "settings": bool(case.configs),
        "JSON text": bool(case.configs),
        "index": case.container == "parts",
    }
    return wanted.get(name, True)


def _trace(failure: BaseException) -> str:
    return "".join(traceback.format_exception(failure))


# Workers ------------------------------------------------------------------------------------------


def _work(seed: int, numbers: range, log: Path) -> None:
    """Run iterations, telling of each before it begins and after it ends."""
    import torch
    from tests.fuzz import cases, judge

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=log.parent) as name, log.open("a") as file:
        root = Path(name)

        def write(value: dict[str, Any]) -> None:
            file.write(json.dumps(value) + "\n")
            file.flush()

        # What is imported late is imported now, without anybody watching.
        for number, case in enumerate(cases.every()):
            path = case.write(root / f"valid-{number}")
            for reader in judge.READERS:
                if reader != "read_published" or not case.kind.startswith("our"):
                    judge.read(reader, path, case.hints)
        for number in numbers:
            write({"begins": number, "mutations": ["?"], "kind": "?"})
            found = run_one(seed, number, root, lambda told, n=number: write({"begins": n, **told}))
            write({"number": number, **found})


def _chunk(seed: int, numbers: range, log: Path) -> Iterator[dict[str, Any]]:
    """Results of a worker; one that dies or hangs is replaced by another behind the iteration."""
    first = numbers.start
    while first < numbers.stop:
        log.unlink(missing_ok=True)
        log.touch()
        words = ["--worker", str(first), str(numbers.stop), str(log), "--seed", str(seed)]
        command = [sys.executable, "-m", "tests.fuzz.checkpoints", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
            began: dict[str, Any] = {"begins": -1}
            last = time.monotonic() + 60
            end = ""
            line = ""
            with log.open() as file:
                while True:
                    line += file.readline()
                    if line.endswith("\n"):
                        last, found = time.monotonic(), json.loads(line)
                        line, began = "", found if "begins" in found else began
                        if "number" in found:
                            first = found["number"] + 1
                            yield found
                    elif worker.poll() is not None:
                        break
                    elif time.monotonic() - last > _PATIENCE:
                        end = f"no answer for {_PATIENCE:g} seconds"
                        worker.kill()
                        worker.wait()
                        break
                    else:
                        time.sleep(0.02)
            assert worker.stderr is not None
            said = worker.stderr.read() if not end else ""
        if worker.returncode == 0 and not end:
            return
        if began["begins"] < first:
            raise RuntimeError(f"the worker broke off between iterations: {said[-3000:]}")
        last_words = " ".join(said.split())[-600:]
        end = end or f"the interpreter died ({worker.returncode}) {last_words}"
        yield {**began, "number": began["begins"], "failure": end}
        first = began["begins"] + 1


def main() -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        first, stop, log = given.worker
        _work(given.seed, range(int(first), int(stop)), Path(log))
        return 0
    first = given.first if given.only is None else given.only
    stop = first + (given.count if given.only is None else 1)
    failures, outcomes = 0, Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory(prefix="fuzz-log-") as folder:
        for start in range(first, stop, _CHUNK):
            part = range(start, min(stop, start + _CHUNK))
            for found in _chunk(given.seed, part, Path(folder) / "log"):
                outcome = "FAILURE" if "failure" in found else found["outcome"]
                for name in sorted(set(found["mutations"])):
                    outcomes[name, outcome] += 1
                if given.only is not None:
                    print(json.dumps({k: v for k, v in found.items() if k != "trace"}, indent=1))
                    print(found.get("trace", ""))
                if "failure" in found:
                    failures += 1
                    again = f"--seed {given.seed} --only {found['number']}"
                    what = f"{found['kind']}; {', '.join(found['mutations'])}"
                    print(f"{again}: {what}; {found.get('reader')}: {found['failure'][:600]}")
                if sys.stderr.isatty():
                    print(f"\r{found['number'] + 1}/{stop}", end="", file=sys.stderr)
    _print(outcomes)
    print(f"{stop - first} iterations, {failures} failures")
    return 1 if failures else 0


def _print(outcomes: Counter[tuple[str, str]]) -> None:
    columns = sorted({outcome for _, outcome in outcomes})
    print(f"{'':14}" + "".join(f"{column:>24}" for column in columns))
    for name in sorted({name for name, _ in outcomes}):
        print(f"{name:14}" + "".join(f"{outcomes[name, column]:>24}" for column in columns))


if __name__ == "__main__":
    sys.exit(main())
