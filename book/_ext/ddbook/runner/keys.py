"""What a run depends on, and whether a finished run still stands.

A key holds, in parts that can be named, the code of the notebook's cells, the definitions of our
packages that they reach (`reach`), the settings, the published tables that it may show, the data
and the environment; and, as a part of its own, what only draws. Prose and captions are in no key.
It is compared with the key that the finished run left in `run.json`: content decides, never a
file's date, so a fresh checkout or a touched file runs nothing again. A run that differs in what
draws alone is drawn again.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbook.runner import cells, datasets, files, reach

if TYPE_CHECKING:
    from ddbook.runner.job import Job

HERE = Path(__file__).parents[1]  # where the kernel will import the book's package from
FIGURES = "figures"  # the part of a key that makes a run be drawn again, not computed
DRAWS = "ddbook.page"  # the room of ours that saves, records, sets the style: it computes nothing
RUNS = "ddbook.runner"  # the room that makes runs, and is no part of them

UNFINISHED = "unfinished.json"  # of a batch that was out of time: how far it came
FEW = 3  # changes that are named one by one


def key(job: Job) -> dict[str, Any]:
    """Return what a run rests on, now."""
    root, style = job.root, job.root / "book" / "figures.mplstyle"
    shown = {}
    if job.profile == "quick":  # it may show what larger ones made
        records = {name: _published(root, name) for name in (job.name, *job.header.needs)}
        shown = {n: _digest(path.read_bytes()) for n, path in records.items() if path.is_file()}
    computes = computing(job)
    reached = {**computes["library"], **computes["book"]}
    drawn = _packages(root, RUNS).reached(cells.text(job.cells))
    return {
        **computes,
        FIGURES: {
            "cells": cells.figures(job.cells),
            **{name: digest for name, digest in drawn.items() if name not in reached},
            style.name: _digest(style.read_bytes()),
        },
        "published": shown,
        "data": job.data,
        "environment": {
            "python": ".".join(map(str, sys.version_info[:2])),
            "requirements.lock": _digest(_read(root / "requirements.lock")),
        },
    }


def computing(job: Job) -> dict[str, Any]:
    """Return the parts of a key that say what is computed: code and settings."""
    code = cells.text(job.cells, figures=False) + datasets.reaches(job.cells)
    reached = _packages(job.root, RUNS, DRAWS).reached(code)
    parts = {"library": "ddlib.", "book": "ddbook."}
    return {
        "code": cells.computing(job.cells),
        "settings": job.settings,
        **{
            part: {name: digest for name, digest in reached.items() if name.startswith(package)}
            for part, package in parts.items()
        },
    }


def _published(root: Path, name: str) -> Path:
    return root / "results" / name / "run.json"


def _packages(root: Path, *without: str) -> reach.Packages:
    return reach.Packages({"ddlib": root / "ddlib", "ddbook": HERE}, without)


def expected_seconds(job: Job) -> float:
    """Return how long the last run took, here or, published, elsewhere; 0 if nobody knows."""
    return seconds(job.products.record) or seconds(_published(job.root, job.name))


def seconds(record: Path) -> float:
    """Return how long the run took that left this record; 0 where it does not say."""
    try:
        found = float(files.read_json(record)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    return found if math.isfinite(found) else 0.0


def reasons(recorded: Any, current: Mapping[str, Any]) -> list[str]:
    """Say why a run with key `recorded` does not stand for `current`; nothing if it does.

    >>> reasons({"source": "a", "settings": {"n": 1}}, {"source": "a", "settings": {"n": 2}})
    ['settings: n was 1, is 2']
    """
    if not isinstance(recorded, Mapping):
        return ["no finished run"]
    found = []
    for part, now in current.items():
        was = recorded.get(part)
        if _stands(part, was, now):
            continue
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            changed = [k for k in {**was, **now} if not _stands(part, was.get(k), now.get(k))]
            if not changed:
                continue
            if part == "settings" and len(changed) <= FEW:
                changed = [f"{k} was {was.get(k)}, is {now.get(k)}" for k in changed]
            more = f" and {len(changed) - FEW} more" if len(changed) > FEW else ""
            found.append(f"{part}: {', '.join(changed[:FEW])}{more}")
        else:
            found.append(f"{part} changed")
    return found


def _stands(part: str, was: Any, now: Any) -> bool:
    if part == "data" and now == "absent":
        # a run on real data stands, also where the data has gone since
        return isinstance(was, str)
    return bool(was == now)


def stale(job: Job) -> list[str]:
    """Say why a job has to run; nothing when its finished run still stands."""
    recorded, more = None, []
    if job.products.notebook.is_file() and job.products.record.is_file():
        try:
            record = files.read_json(job.products.record)
            recorded, more = record.get("key"), so_far(record)
        except (OSError, ValueError, AttributeError):
            recorded = None
    return reasons(recorded, job.key) + more


def so_far(record: Mapping[str, Any]) -> list[str]:
    """Say how far a batch came that was out of time; nothing of one that is whole.

    >>> so_far({"unfinished": "3 of 40 runs"}), so_far({})
    (['3 of 40 runs so far'], [])
    """
    return [f"{record['unfinished']} so far"] if record.get("unfinished") else []


def changed_since(job: Job) -> list[str]:
    """Say what the published tables of a job of the standard profile rest on that has changed.

    Nothing if none has. `ValueError` for a published record that cannot be read.
    """
    record = _published(job.root, job.name)
    if not record.is_file():
        return []
    try:
        was = files.read_json(record)["key"]
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"{record.name} of {job.name} has no key ({error})") from error
    return reasons(was, computing(job))


def only_figures(recorded: Any, current: Mapping[str, Any]) -> bool:
    """Say whether a run with key `recorded` would stand for `current`, were it drawn again."""
    rest = {part: value for part, value in current.items() if part != FIGURES}
    return not reasons(recorded, rest) and bool(reasons(recorded, current))


def stamp(path: Path, why: list[str], *products: Path) -> Path:
    """Date the file `path` after `products` if there is a reason to make them again, else before.

    Snakemake compares dates. Nothing that it compares is under version control: it sees products
    and these stamps, whose date says what the keys say.
    """
    dates = [product.stat().st_mtime_ns for product in products if product.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if why:
        if not (path.is_file() and dates and path.stat().st_mtime_ns > max(dates)):
            # The time makes the content new: a newer file of a known checksum moves nothing.
            path.write_text("\n".join([f"{time.time_ns()}", *why, ""]), encoding="utf-8")
    else:
        path.touch()
        if dates:
            os.utime(path, ns=(min(dates) - 1, min(dates) - 1))
    return path


def mark(done: Path, *products: Path) -> Path:
    """Give the file `done` the date of its `products`, or delete it unless all are there.

    It is Snakemake's output in their place, since Snakemake deletes outputs before a job starts
    and when it fails: a finished run stays until the next one has succeeded.
    """
    if all(product.is_file() for product in products):
        date = min(product.stat().st_mtime_ns for product in products)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()
        os.utime(done, ns=(date, date))
    else:
        done.unlink(missing_ok=True)
    return done


def page_key(root: Path, profile: str) -> dict[str, Any]:
    """Return the key of the built pages, apart from the runs that they show."""
    kept = (".md", ".py", ".yml", ".yaml", ".bib", ".css", ".js", ".html", ".svg", ".png", ".json")
    folders = ("book", "notebooks", "results")
    files = [path for folder in folders for path in sorted((root / folder).rglob("*"))]
    shown = [path for path in files if path.suffix in (*kept, ".parquet", ".mplstyle")]
    shown = [path for path in shown if path.is_file() and not path.name.startswith(".")]
    return {
        "profile": profile,
        "pages": {
            str(path.relative_to(root)): _digest(path.read_bytes())
            for path in [*shown, root / "_config.yml", root / "requirements.lock"]
            if path.is_file()
        },
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
