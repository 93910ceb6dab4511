"""What a table of annotations says."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


class Marks(NamedTuple):
    """Events, and recordings that the table names without one."""

    events: pl.DataFrame
    """columns of `EVENTS`; `path` null where the table belongs to one recording without naming it;
    `clock` and `lasts` behind where times are those of a clock"""
    empty: tuple[str, ...] = ()
    """recordings in which nothing was found"""
