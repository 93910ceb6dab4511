"""A transform's options: one config dataclass, or its fields as keyword arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_args

from sonoformer.errors import UserError, nearest

T = TypeVar("T")


def configured(kind: type[T], config: T | None, options: Mapping[str, Any]) -> T:
    """`config`, or a `kind` made from `options`, or the default.

    Raises:
        UserError: both are given, or an option is unknown.
    """
    if not options:
        return kind() if config is None else config
    if config is not None:
        raise UserError(f"{', '.join(options)}: give a {kind.__name__} or single options, not both")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise UserError(f"{name}: no option of {kind.__name__}.{nearest(name, known)}")
    return kind(**options)


def refuse_unknown(config: object, **kinds: Any) -> None:
    """Refuse a value that its `Literal` does not list.

    Raises:
        UserError: names the option and the values it may take.
    """
    for name, kind in kinds.items():
        value, known = getattr(config, name), get_args(kind)
        if value not in known:
            raise UserError(f"{name}: must be one of {', '.join(known)}; got {value!r}")


def refuse_outside(config: object, low: float, high: float, *names: str) -> None:
    """Refuse whole numbers outside `low` to `high`; absent ones (None) pass.

    Raises:
        UserError: names the option and its range.
    """
    for name in names:
        value = getattr(config, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and low <= value <= high):
            raise UserError(
                f"{name}: must be a whole number within {low:g} to {high:g}; got {value!r}"
            )


def refuse_not_positive(config: object, *names: str) -> None:
    """Refuse numbers that are not above 0 and finite.

    Raises:
        UserError: names the option.
    """
    for name in names:
        value = getattr(config, name)
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UserError(f"{name}: must be above 0 and finite; got {value!r}")
