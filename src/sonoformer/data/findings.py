"""What a check has to say, with the rows that it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from sonoformer.errors import UserError

Severity = Literal["error", "warning", "info"]
SHOWN = 5
"""Rows named in a finding's sentence."""


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in a table."""

    kind: str
    """short name, such as missing-file"""
    severity: Severity
    message: str
    """one sentence, without the rows"""
    rows: tuple[int, ...] = ()
    """all rows concerned, counted from 1 without the header"""

    def __str__(self) -> str:
        if not self.rows:
            return self.message
        shown = ", ".join(map(str, self.rows[:SHOWN]))
        more = f" and {len(self.rows) - SHOWN} more" if len(self.rows) > SHOWN else ""
        return f"{self.message} (row{'s' if len(self.rows) > 1 else ''} {shown}{more})"


def rows_where(mask: pl.Series) -> tuple[int, ...]:
    """Row numbers, counted from 1, at which `mask` is true."""
    return tuple((mask.fill_null(False).arg_true() + 1).to_list())


def refuse_errors(
    findings: Iterable[Finding], source: str, advice: str = "see `sonoformer data check`"
) -> None:
    """Raise the findings that are errors, with what to do.

    Raises:
        UserError: there is at least one; the sentence holds the first and counts the others.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        others = len(errors) - 1
        more = f" (and {others} other kind{'s' if others > 1 else ''} of error)" if others else ""
        raise UserError(f"{source}: {errors[0]}{more}; {advice}")
