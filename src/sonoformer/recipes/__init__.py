"""One YAML file a published experiment: the command, its cost and the expected result on top.

Under `profiles` a recipe may hold further options by name, which lie over its own ones: `reference`
does all that the authors' program does, also what differs from the paper or can be improved.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from sonoformer.errors import UserError, nearest
from sonoformer.settings import merged, read_yaml


def names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(
        Path(entry.name).stem for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def load(name: str, profile: str | None = None) -> tuple[dict[str, Any], str]:
    """The options of a recipe and where they come from.

    Args:
        name: a name of `names()`, or the path of a YAML file.
        profile: one of the recipe's profiles, whose options lie over the recipe's own.

    Raises:
        UserError: neither a recipe nor a file; or the recipe has no such profile.
    """
    options, source = _read(name)
    profiles = options.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise UserError(f"{source}: profiles should hold a mapping of options for each name")
    if profile is None:
        return options, source
    if profile not in profiles:
        has = f"it has {', '.join(map(str, profiles))}" if profiles else "it has none"
        raise UserError(
            f"--profile {profile}: {source} has no profile of that name; {has}."
            f"{nearest(profile, map(str, profiles))}"
        )
    return merged(options, profiles[profile]), f"{source}, profile {profile}"


def _read(name: str) -> tuple[dict[str, Any], str]:
    if name in names():
        return read_yaml(str(files(__name__) / f"{name}.yaml")), f"recipe {name}"
    if Path(name).suffix in (".yaml", ".yml"):
        return read_yaml(name), name
    raise UserError(
        f"--recipe {name}: neither a YAML file nor one of {', '.join(names())}."
        f"{nearest(name, names())}"
    )
