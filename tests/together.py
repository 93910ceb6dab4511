"""Several processes as torchrun would start them, without importing everything once for each.

A first process imports what is needed and starts no thread; it is forked for each process of a
group. (A fork of the test itself would inherit locks that other threads of it hold.)
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any

PATIENCE = 240.0  # seconds for a group
_IMPORTED = ("lightning.pytorch", "sonoformer.cli.pretrain", "sonoformer.cli.finetune")
_parent: list[subprocess.Popen[str]] = []


def run_together(
    world: int, target: str, *args: Any, while_running: Callable[[list[int]], Any] | None = None
) -> tuple[list[int], str]:
    """Exit codes of `world` processes that each call `target(*args)`, and what they said.

    Args:
        world: how many.
        target: `module:function`; an exception ends a process with code 1, a signal with minus its
            number.
        args: plain values.
        while_running: called once with the process ids.
    """
    if not _parent:
        program = [sys.executable, str(Path(__file__).resolve())]
        pipe = subprocess.PIPE
        _parent.append(subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True))
        atexit.register(_parent[0].kill)
    words = _parent[0]
    assert words.stdin is not None
    assert words.stdout is not None
    print(json.dumps([world, target, args]), file=words.stdin, flush=True)
    started = json.loads(words.stdout.readline())
    if while_running is not None:
        while_running(started["ids"])
    ended = json.loads(words.stdout.readline())
    said = Path(started["said"])
    text = said.read_text(encoding="utf-8", errors="replace")
    said.unlink()
    return ended["codes"], text


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import torch

    torch.set_num_threads(1)
    for name in _IMPORTED:
        import_module(name)
    for line in sys.stdin:
        world, target, args = json.loads(line)
        said = f"/tmp/together-{os.getpid()}-{time.monotonic_ns()}.txt"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with open(said, "w", encoding="utf-8") as output:
            ids = [_start(rank, world, port, target, args, output) for rank in range(world)]
        print(json.dumps({"ids": ids, "said": said}), flush=True)
        print(json.dumps({"codes": _codes(ids)}), flush=True)


def _codes(ids: list[int]) -> list[int]:
    codes: dict[int, int] = {}
    end = time.monotonic() + PATIENCE
    while len(codes) < len(ids):
        for number in set(ids) - set(codes):
            done, status = os.waitpid(number, os.WNOHANG)
            if done:
                codes[number] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[number] for number in ids]


def _start(rank: int, world: int, port: int, target: str, args: Any, output: IO[str]) -> int:
    if number := os.fork():
        return number
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    code = 1
    try:
        os.environ.update(
            TORCHELASTIC_RUN_ID="test",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            LOCAL_WORLD_SIZE=str(world),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        module, _, name = target.partition(":")
        getattr(import_module(module), name)(*args)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return 0


if __name__ == "__main__":
    _serve()
