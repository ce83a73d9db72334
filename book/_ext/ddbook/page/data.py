"""The data of a run: asked for by name, noted, and named by the tables and claims that rest on it.

One rule for all notebooks says when a stand-in is taken for a dataset that cannot be had: with the
profile `quick`, which shows that a notebook runs. Then it is marked wherever it is used, nothing is
judged on it, and the run is out of date as soon as the data is at hand. `standard` and `paper` are
made to be published and judged: they stop at once and say what would do. A stand-in that is asked
for by its own name (`-p dataset digits`) is data like any other.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbook.page.tables import Table
from ddbook.runner import datasets

if TYPE_CHECKING:
    from ddlib.data import Dataset

STANDS_IN = "quick"  # the profile that takes a stand-in

WOULD_DO = 'a dataset of run.data, a table, "none" or a list of these'


class Data:
    """What a run has been given by name, and what its tables and claims may say they rest on.

    Args:
      profile: the run's.
      folder: the run's; what it was given is noted there.
      named: the datasets that the run's key holds; None where no key is kept.
    """

    def __init__(self, profile: str, folder: Path, named: Collection[str] | None = None) -> None:
        self._profile = profile
        self._folder = folder
        self._named = named
        self._given: dict[str, dict[str, Any]] = {}

    def load(self, name: str, split: str, seed: int, subset: int | None) -> Dataset:
        """Return a dataset, or its labelled stand-in where the profile takes one; note it."""
        from ddlib import data

        known = isinstance(name, str) and name in data.SPLITS  # what is not, `load` will name
        if known and self._named is not None and name not in self._named:
            raise ValueError(
                "name must be a setting called dataset or …_dataset, or stand as text in the call, "
                f'as in run.data("{name}", …), got {name!r} by another way; the key of a run holds '
                "every dataset that it may ask for"
            )
        dataset = data.load(
            name, split, stand_in=self._profile == STANDS_IN, seed=seed, subset=subset
        )
        self._given[name] = _record(dataset)
        datasets.note(self._folder, self._given)
        return dataset

    def under(self, data: Any, what: str) -> datasets.Recorded:
        """Return the record of the data that `what` rests on: a table, say, or a claim.

        `data` is a dataset of `run.data`, a `Table` (then it is that table's data), "none", or a
        list of these. `ValueError` for anything else, and for data that came by another way.
        """
        # datasets and tables are tuples themselves
        given = list(data) if type(data) in (list, tuple) else [data]
        if data is None or not given:
            raise ValueError(
                f"data must be {WOULD_DO}, got nothing; name what {what} rests on, "
                'data="none" where it needs no data'
            )
        found: list[dict[str, Any]] = []
        for one in given:
            found += self._one(one, what)
        return datasets.recorded(found)

    def _one(self, one: Any, what: str) -> list[dict[str, Any]]:
        if isinstance(one, str) and one == datasets.NONE:
            return []
        if isinstance(one, Table):
            if one.provenance.dataset is None:
                raise ValueError(
                    f"data must be {WOULD_DO}, got the table {one.name}, which does not say what "
                    f"it rests on; run {one.provenance.notebook} again"
                )
            return datasets.listed(one.provenance.dataset)
        if not all(hasattr(one, field) for field in datasets.FIELDS):
            shown = f"{one!r}" if len(f"{one!r}") < 60 else type(one).__name__
            raise ValueError(f"data must be {WOULD_DO}, got {shown}; name what {what} rests on")
        record = _record(one)
        if record not in self._given.values():
            raise ValueError(
                f"data must come from run.data, got the dataset {one.name} by another way; "
                f'run.data("{one.name}", …) notes that the run rests on it'
            )
        return [record]


def _record(dataset: Any) -> dict[str, Any]:
    return {field: getattr(dataset, field) for field in datasets.FIELDS}
