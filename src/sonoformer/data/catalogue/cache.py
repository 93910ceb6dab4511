"""Where fetched data lie: `$SONOFORMER_CACHE`, or `~/.cache/sonoformer`.

archives/    public archives as downloaded, with what is known of them in `known.json`
deb/         Debian packages as downloaded
packages/    Debian packages unpacked, a folder `name_version` each
sets/        public archives unpacked, a folder a set
converted/   sounds of packed formats (sample banks, game resources) as audio files
NAME.csv     manifest of the set NAME; its paths are relative to the cache
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Progress = Callable[[str, int, int | None], None]
"""Called with (what is being done, units done, units in all or None)."""


def quiet(what: str, done: int, total: int | None) -> None:
    """The progress callback that shows nothing."""


def cache_folder() -> Path:
    """The cache's folder (it may not exist yet)."""
    given = os.environ.get("SONOFORMER_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "sonoformer"


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block succeeds, else it is removed.

    A `target` that appears meanwhile (another process fetched the same) is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if not target.exists():
            os.replace(temporary, target)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
