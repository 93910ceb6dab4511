"""One YAML file a published experiment: the command, its cost and the expected result on top."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from sonoformer.errors import UserError, nearest
from sonoformer.settings import read_yaml


def names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(
        Path(entry.name).stem for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def load(name: str) -> tuple[dict[str, Any], str]:
    """The options of a recipe and where they come from.

    Args:
        name: a name of `names()`, or the path of a YAML file.

    Raises:
        UserError: neither a recipe nor a file.
    """
    if name in names():
        return read_yaml(str(files(__name__) / f"{name}.yaml")), f"recipe {name}"
    if Path(name).suffix in (".yaml", ".yml"):
        return read_yaml(name), name
    raise UserError(
        f"--recipe {name}: neither a YAML file nor one of {', '.join(names())}."
        f"{nearest(name, names())}"
    )
