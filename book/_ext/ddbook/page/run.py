"""One run of a notebook, from its first cell on: settings, data, tables, claims, progress.

Under the runner everything is written to a folder that takes its place when the run is whole; by
hand, in Jupyter, straight to the same place, and the next `make book` runs the notebook again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ddbook.page import claims as ledger
from ddbook.page import style
from ddbook.page.card import Card
from ddbook.page.data import Data
from ddbook.page.tables import Table, check_name, label_of
from ddbook.runner import datasets, files, keys, places, profiles, tables
from ddbook.runner.choice import refusal
from ddbook.runner.job import Job, describe
from ddbook.runner.origin import Commit, collect_provenance, commit_of, device_description
from ddbook.sweeps import store

if TYPE_CHECKING:
    import pandas as pd

    from ddlib.data import Dataset

PROGRESS_SECONDS = 10.0


class Run:
    """One run of a notebook; `open` makes it."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.name = job.name
        self.profile = job.profile
        self.settings = SimpleNamespace(**job.settings)
        self._root = job.root
        self._folder = folder
        self._start = time.monotonic()
        self._spoke = self._start
        self._tables: dict[str, Table] = {}
        by_hand = "DDBOOK_FOLDER" not in os.environ
        self._draws = os.environ.get("DDBOOK_DRAWS") == "1"  # figures of a finished run, no more
        self._data = Data(job.profile, folder, None if by_hand else set(job.data))

        def write(book: ledger.Ledger) -> None:
            self._must_compute("record a claim")
            files.write_json(book.as_dict(), folder / "claims.json")

        self.claims = ledger.Ledger(
            ledger.load(job.root / "book" / "claims.yml"),
            notebook=job.name,
            profile=job.profile,
            on_record=write,
            replace=by_hand,  # a cell may be run again
            rests_on=self._rests_on,
        )

    def _must_compute(self, what: str) -> None:
        if self._draws:
            raise RuntimeError(f"a cell tagged figure must only draw, and is about to {what}")

    @functools.cached_property
    def _commit(self) -> Commit:
        return commit_of(self._root, ignore=("results",))

    def data(
        self, name: str, split: str = "train", *, seed: int = 0, subset: int | None = None
    ) -> Dataset:
        """Return a split of a dataset (`ddlib.data.load`), and note that the run rests on it.

        The name is a setting's (`dataset`, `…_dataset`) or stands as text in the call: so a key
        holds it. With the profile `quick`, where no source can give the dataset, a labelled
        stand-in is returned; the others stop, with `DatasetUnavailable`. `ValueError` for a name,
        a split, a seed or a subset that will not do.
        """
        self._must_compute("take data")
        return self._data.load(name, split, seed, subset)

    def _rests_on(self, data: Any, what: str) -> datasets.Recorded:
        return self._data.under(data, what)

    @property
    def _store(self) -> store.Store:
        return store.Store(places.store(self._root, self.name))

    def scratch(self, key: dict[str, Any], *, data: Any = None) -> Path:
        """Return the folder of checkpoints for what `cached` is computing under the same key."""
        return self._store.scratch(self._whole(key, data))

    def digest(self, key: dict[str, Any], *, data: Any = None) -> str:
        """Return a short name for what has this key and this data, for a table.

        A published row that carries it can stand for a run with an equal key.
        """
        return self._store.name(self._whole(key, data))

    def _whole(self, key: dict[str, Any], data: Any) -> dict[str, Any]:
        return {**key, "dataset": self._rests_on(data, "what is kept")}

    def out_of_time(self) -> bool:
        """Whether a batch should start no more: `make sweep MINUTES=…` gives a run so many."""
        minutes = os.environ.get("DDBOOK_MINUTES")
        return minutes is not None and time.monotonic() - self._start >= 60 * float(minutes)

    def unfinished(self, words: str) -> None:
        """Note how far a batch came that was out of time: "3 of 40 runs".

        The next run goes on from there, and so much of it may be published.
        """
        self._must_compute("note how far it came")
        files.write_json(words, self._folder / keys.UNFINISHED)

    @property
    def folder(self) -> Path:
        """Where this run's tables go; what else a notebook writes there goes with them."""
        return self._folder

    def cached(self, key: dict[str, Any], compute: Callable[[], Any], *, data: Any = None) -> Any:
        """Return `compute()`, or what it gave when a run with an equal key was finished before.

        The key must hold all that the result depends on, the program included
        (`ddlib.sweep.program_fingerprint`). So a batch that was cut goes on where it was, and its
        shards may run side by side. The data, named as in `save`, is part of the key.
        """
        self._must_compute("compute what is kept")
        store, whole = self._store, self._whole(key, data)
        value = store.get(whole)
        if value is None:
            start = time.monotonic()
            value = files.plain(compute())
            value |= {
                "seconds": round(time.monotonic() - start, 3),
                "commit": self._commit.commit,
                "dirty": self._commit.dirty,
                "device": device_description(),
            }
            store.put(whole, value)
            value = store.get(whole)  # as any later run will find it
        return value

    def stored(self, key: dict[str, Any], *, data: Any = None) -> Any:
        """Return what `cached` kept under this key; `KeyError` when there is none."""
        value = self._store.get(self._whole(key, data))
        if value is None:
            raise KeyError(key)
        return value

    def has(self, key: dict[str, Any], *, data: Any = None) -> bool:
        """Whether `cached` kept something under this key."""
        return self._store.get(self._whole(key, data)) is not None

    def save(self, table: str, frame: pd.DataFrame, *, data: Any = None) -> Table:
        """Save a tidy table with its provenance; its seeds are those of its column `seed`.

        `data` is what the table rests on: a dataset that `run.data` gave, a `Table` (then that
        table's data), `"none"` for a toy that needs none, or a list of these. `ValueError`, before
        anything is written, when it is none of them.
        """
        check_name(table)
        self._must_compute(f"save the table {table}")
        dataset = self._rests_on(data, f"the table {table}")
        settings = vars(self.settings)
        if "seed" in frame.columns:
            seeds = sorted({int(seed) for seed in frame["seed"]})
        else:
            seeds = [settings["seed"]] if "seed" in settings else settings.get("seeds", [])
        provenance = collect_provenance(
            notebook=self.name,
            profile=self.profile,
            parameters=settings,
            seeds=seeds,
            dataset=dataset,
            commit=self._commit,
            wall_seconds=round(time.monotonic() - self._start, 3),
        )
        tables.write_table(frame, self._folder / f"{table}.parquet", provenance)
        saved = Table(frame, provenance, label_of(provenance), table)
        self._tables[table] = saved
        return saved

    def load(self, table: str, notebook: str | None = None) -> Table:
        """Return a table of this profile: this run's own, or the one that `notebook` saved."""
        check_name(table)
        if notebook is None or notebook == self.name:
            folder, remedy = self._folder, f"run.save({table!r}, frame) makes it"
        else:
            profiles.check_notebook(self._root, notebook)
            folder = places.products(self._root, self.profile, notebook).folder
            remedy = f"`make run NB={notebook} PROFILE={self.profile}` makes it"
        path = folder / f"{table}.parquet"
        if not path.is_file():
            there = sorted(file.stem for file in folder.glob("[!.]*.parquet"))
            of = f"{notebook or self.name} ({self.profile}): table"
            raise FileNotFoundError(f"{refusal(of, there, table)}; {remedy}")
        frame, provenance = tables.read_table(path)
        return Table(frame, provenance, label_of(provenance), table)

    def published(self, table: str, notebook: str | None = None) -> Table | None:
        """Return the published table (standard profile), or None where there is none yet."""
        check_name(table)
        path = self._root / "results" / (notebook or self.name) / f"{table}.parquet"
        if not path.is_file():
            return None
        frame, provenance = tables.read_table(path)
        since = tuple(keys.changed_since(describe(self._root, "standard", notebook or self.name)))
        record = path.with_name("run.json")
        so_far = keys.so_far(files.read_json(record)) if record.is_file() else []
        label = ", ".join([label_of(provenance), "published", *so_far])
        return Table(frame, provenance, label, table, published=True, since=since)

    def card(self, *tables: Table | str | None) -> Card:
        """Return a card that says where tables came from; without any, all that were saved.

        A table is given as what `save`, `load` and `published` return (None, an unpublished one,
        is passed over) or as the name of one saved.
        """
        if not tables:
            return Card(self._tables.values())
        found = [self.load(table) if isinstance(table, str) else table for table in tables]
        return Card(table for table in found if table is not None)

    def progress(self, step: int, total: int, text: str = "") -> None:
        """Say in the runner's log how far a long run is: a line every 10 s, nothing on the page."""
        log = os.environ.get("DDBOOK_LOG_FD", "")
        now = time.monotonic()
        if not log or (now - self._spoke < PROGRESS_SECONDS and step < total):
            return
        self._spoke = now
        seconds = now - self._start
        line = f"{self.name} ({self.profile}): {step}/{total}, {seconds:.0f} s {text}".rstrip()
        with contextlib.suppress(OSError):  # a closed log must not end a run
            os.write(int(log), f"  {line}\n".encode())


def open(name: str, profile: str, parameters: Mapping[str, Any] | None = None) -> Run:
    """Open the page of notebook `name`: check its settings, set the figure style.

    `parameters` are settings in place of the profile's, such as `{"num_seeds": 3}`. `ValueError`
    says what is wrong with a name or value, and what would do.
    """
    expected = os.environ.get("DDBOOK_NAME", name)
    if name != expected:
        raise ValueError(f"page.open: name must be {expected!r} in this notebook, got {name!r}")
    job = describe(places.root(), profile, name, parameters)
    if "DDBOOK_FOLDER" in os.environ:
        folder = Path(os.environ["DDBOOK_FOLDER"])
    else:
        folder = job.products.folder
        # tables made by hand may be half of this and half of that: they are no finished run
        job.products.record.unlink(missing_ok=True)
        job.products.claims.unlink(missing_ok=True)
    style.use(job.root)
    return Run(job, folder)
