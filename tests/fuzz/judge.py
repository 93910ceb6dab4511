"""What reading a damaged checkpoint may do, and seeing when it does something else."""

from __future__ import annotations

import contextlib
import io
import resource
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tests.fuzz.pickles import MARK
from torch import nn

from sonoformer.cli.inspect import inspect
from sonoformer.encoders import AstEncoder, Hints, load_encoder, read_published
from sonoformer.errors import UserError
from sonoformer.nn.patches import grid_of
from sonoformer.pretraining.starting import starting_point
from sonoformer.tasks.model import Model, load_model

ALLOWED = 6 * 2**30
"""Bytes of address space above what is in use that a reading may ask for."""
GROWTH = 1.5 * 2**30
"""Bytes of memory that a reading may really take; the files have a few hundred kilobytes."""
_LONGEST = 2500


class ForbiddenError(Exception):
    """Reading did what it must not."""


# Watching -----------------------------------------------------------------------------------------


class _Watch:
    """Notes what happens while it is on; hooks of the interpreter can never be taken off again."""

    def __init__(self) -> None:
        self.on, self.seen = False, ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and (found := _forbidden(event, arguments)):
            self.seen = self.seen or found


_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "os.remove",
    "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown",
    "os.truncate", "shutil.rmtree", "shutil.move", "shutil.copyfile", "pty.spawn",
    "webbrowser.open", "urllib.Request", "os.putenv",
)  # fmt: skip


def _forbidden(event: str, arguments: tuple[Any, ...]) -> str:
    if event in _FORBIDDEN:
        return f"{event} {arguments!r:.200}"
    if event == "open":
        path, mode = arguments[0], arguments[1] or ""
        if isinstance(mode, str) and set(mode) & set("wax+") and str(path) != "/dev/null":
            return f"opens {path} to write"
    if event == "exec" and isinstance(arguments[0], types.CodeType):
        code = arguments[0]
        if any(MARK in str(part) for part in (*code.co_consts, *code.co_names)):
            return "runs code of the file"
    if event == "compile" and arguments[0] is not None and MARK in str(arguments[0]):
        return "compiles code of the file"
    if event == "pickle.find_class":
        return f"python's own unpickler looks up {arguments!r}"
    return ""


_WATCH = _Watch()
_HOOKED: list[bool] = []


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Reading inside runs under the hook and the limits of memory.

    Raises:
        ForbiddenError: code was run, something was written, or much memory was taken.
    """
    if not _HOOKED:
        sys.addaudithook(_WATCH)
        _HOOKED.append(True)
    before = _peak()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + ALLOWED, hard))
    _WATCH.on, _WATCH.seen = True, ""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        _WATCH.on = False
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if _WATCH.seen:
        raise ForbiddenError(_WATCH.seen)
    if any(folder.parent.glob(f"{MARK}*")):
        raise ForbiddenError("made the canary file")
    if (taken := _peak() - before) > GROWTH:
        raise ForbiddenError(f"took {taken / 2**30:.1f} GiB")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


# Reading ------------------------------------------------------------------------------------------


def _encoder(path: Path, hints: dict[str, Any]) -> str:
    shared = {name: value for name, value in hints.items() if name in ("stride", "statistics")}
    _try(load_encoder(path, **shared))
    return "an encoder"


def _model(path: Path, hints: dict[str, Any]) -> str:
    _try(load_model(path, **hints))
    return "a classifier"


def _published(path: Path, hints: dict[str, Any]) -> str:
    found = read_published(path, Hints(**hints))
    _try(found.make_encoder())
    return "a published checkpoint"


def _start(path: Path, hints: dict[str, Any]) -> str:
    _try(starting_point(path)[0])
    return "a start"


def _inspect(path: Path, hints: dict[str, Any]) -> str:
    inspect(path)
    return "something to show"


READERS: dict[str, Callable[[Path, dict[str, Any]], str]] = {
    "load_encoder": _encoder,
    "load_model": _model,
    "read_published": _published,
    "starting_point": _start,
    "inspect": _inspect,
}


def read(reader: str, path: Path, hints: dict[str, Any]) -> str:
    """Read a path; what came of it, in words.

    Raises:
        ForbiddenError: anything else than a model that computes or one sentence that says why
            there is none.
    """
    folder = path if path.is_dir() else path.parent
    try:
        with guarded(folder):
            return READERS[reader](path, hints)
    except UserError as error:
        return _judged(str(error), path)
    except ForbiddenError:
        raise
    except BaseException as error:
        raise ForbiddenError(f"{type(error).__name__}: {str(error)[:300]}") from error


def _judged(text: str, path: Path) -> str:
    if not text.isprintable():
        raise ForbiddenError(f"a sentence with line breaks or control characters: {text!r:.400}")
    if len(text) > _LONGEST:
        raise ForbiddenError(f"a sentence of {len(text)} characters: {text[:300]}")
    if not (str(path) in text or text.startswith(("--", "classes:"))):
        raise ForbiddenError(f"a sentence that does not name the path: {text[:400]}")
    return "a refusal"


@torch.inference_mode()
def _try(network: nn.Module) -> None:
    """What was read must compute; it is only not tried where its settings ask for hours."""
    encoder = network.encoder if isinstance(network, Model) else network
    assert isinstance(encoder, AstEncoder)
    config, bins = encoder.config, encoder.config.front.n_mels
    frames = max(config.patch[1], 48)
    grid = grid_of(bins, frames, config.patch, config.stride)
    if grid[0] * grid[1] > 1000 or config.depth > 8 or bins * frames > 2**22:
        return
    if any(value.requires_grad is False for value in encoder.parameters()):
        raise ForbiddenError("weights that cannot be trained")
    spec = torch.zeros(1, frames, bins)
    spec[0, ::2] = 0.5
    if isinstance(network, Model):
        found = network(spec)
        wanted: tuple[int, ...] = (1, len(network.classes))
    else:
        found = encoder(spec).x
        wanted = (1, config.prefix + grid[0] * grid[1], config.dim)
    if tuple(found.shape) != wanted:
        raise ForbiddenError(f"outputs of shape {tuple(found.shape)}, not {wanted}")
    # Flipped bits can make a number huge; what follows from it is the file's own affair.
    tame = all(float(value.abs().max()) < 1e3 for value in network.parameters() if value.numel())
    if tame and not bool(found.isfinite().all()):
        raise ForbiddenError("outputs that are not finite")
    if (config.front.fixed_frames or 0) <= 4096:
        encoder.front(torch.zeros(1, 1000))
