"""A table as a page shows it: its rows, where they came from, what to call it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ddbook.runner import datasets
from ddbook.runner.origin import Provenance

if TYPE_CHECKING:
    import pandas as pd


class Table(NamedTuple):
    """A table, where it came from, and in a few words what to call it on a figure."""

    frame: pd.DataFrame
    provenance: Provenance
    label: str
    name: str
    published: bool = False
    since: tuple[str, ...] = ()  # of a published one: what of its computing code has changed

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.frame)} rows, {self.label}"


def label_of(provenance: Provenance) -> str:
    """Say in a few words what a table was made from, for a figure."""
    stand_in = datasets.has_stand_in(provenance.dataset)
    return f"{provenance.profile} profile{', stand-in data' if stand_in else ''}"


def check_name(table: str) -> None:
    """Raise `ValueError` unless `table` can name a table (and its file)."""
    if not isinstance(table, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", table):
        raise ValueError(f"table: {table!r} is no name; small letters, digits and _ would do")
