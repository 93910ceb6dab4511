"""Frozen dataclasses from mappings and back, strictly: recipes and checkpoints share this reader.

Command-line flags are filled by cyclopts on top of the same dataclasses (see `cli.options`). This
reader is our own because a checkpoint must be read back exactly: no 2.5 that becomes 2, no null
that becomes a default, no unknown key that is dropped.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from sonoformer.errors import UserError, brief, nearest

T = TypeVar("T")


def build(cls: type[T], mapping: Mapping[str, Any], source: str) -> T:
    """An instance of the dataclass `cls` from nested plain values; absent keys keep their default.

    Args:
        cls: a dataclass type whose fields all have defaults.
        mapping: field name -> value; nested dataclasses as nested mappings, tuples as lists.
        source: where the mapping comes from (a file name), for the error message.

    Raises:
        UserError: an unknown key (the nearest name is suggested), a value of the wrong type, or a
            value that the dataclass itself refuses.
    """
    return _dataclass(cls, mapping, source, "")


def _dataclass(cls: type[T], mapping: Any, source: str, where: str) -> T:
    if not isinstance(mapping, Mapping):
        raise UserError(
            f"{source}: {where or 'the top level'} should hold a mapping, not "
            f"{brief(repr(mapping))}"
        )
    hints = _hints(cls)
    values = {}
    for key, value in mapping.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in hints:
            raise UserError(f"{source}: unknown option {brief(name)!r}.{nearest(str(key), hints)}")
        values[key] = _value(hints[key], value, source, name)
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _value(hint: Any, value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, source, name)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [a for a in arguments if a is not type(None)]
        for option in options[:-1]:
            try:
                return _value(option, value, source, name)
            except UserError:
                continue
        return _value(options[-1], value, source, name)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        choices = ", ".join(map(str, arguments))
        raise UserError(f"{source}: {name} must be one of {choices}; got {brief(repr(value))}.")
    if origin is tuple and isinstance(value, list | tuple):
        items = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(items) == len(value):
            pairs = enumerate(zip(items, value, strict=True))
            return tuple(_value(item, v, source, f"{name}[{i}]") for i, (item, v) in pairs)
        raise UserError(f"{source}: {name} needs {len(items)} values; got {len(value)}.")
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _value(arguments[1], v, source, f"{name}.{k}") for k, v in value.items()}
    if hint is float and not isinstance(value, bool):
        number = _number(value)
        if number is not None:
            return number
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is Any or (isinstance(hint, type) and hint is not float and type(value) is hint):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise UserError(f"{source}: {name} should be {wanted}; got {brief(repr(value))}.")


def _number(value: Any) -> float | None:
    """A float, or nothing where `value` is none, or is not a number (NaN)."""
    # YAML 1.1 reads 1e-4 as a string, which nobody who writes a learning rate expects.
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def plain(config: Any) -> Any:
    """The dataclass as nested plain values that YAML and JSON can hold."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): plain(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [plain(v) for v in config]
    return str(config) if isinstance(config, Path) else config


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other, `above` winning; neither is changed."""
    result = dict(below)
    for name, value in above.items():
        under = below.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        result[name] = merged(under, value) if both else value  # type: ignore[arg-type]
    return result


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping, read by the safe loader.

    Raises:
        UserError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split())})"
        ) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: should hold a mapping of options, but holds a {type(value).__name__}"
        )
    return value


def to_yaml(config: Any) -> str:
    """The dataclass or mapping as YAML, keys in their own order."""
    text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    if "\x85" not in text:
        return text
    # YAML takes a bare next-line character for a line break: where there is one, all is escaped.
    return yaml.safe_dump(plain(config), sort_keys=False)
