"""What a run depends on, and whether a finished run still stands.

A key holds, in parts that can be named, the code of the notebook's cells, the library modules that
they reach, the settings, the published tables that it may show, the data and the environment; and,
as a part of its own, what only draws. Prose and captions are in no key. It is compared with the key
that the finished run left in `run.json`: content decides, never a file's date, so a fresh checkout
or a touched file runs nothing again. A run that differs in what draws alone is drawn again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddbook.runner import cells, files, places, profiles

HERE = Path(__file__).parent  # where the kernel will import the book's package from
FIGURES = "figures"  # the part of a key that makes a run be drawn again, not computed
DRAWS = "page"  # the module of ours that saves, records and sets the style, and computes nothing

FEW = 3  # changes that are named one by one


def key(
    root: Path, profile: str, name: str, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the key of a run of `name` now; `ValueError` for what `profiles.settings` refuses."""
    source = profiles.check_notebook(root, name)
    style = root / "book" / "figures.mplstyle"
    shown = {}
    if profile == "quick":  # it may show what larger ones made
        tables = (name, *profiles.header(source).needs)
        records = {table: root / "results" / table / "run.json" for table in tables}
        shown = {t: _digest(path.read_bytes()) for t, path in records.items() if path.is_file()}
    computes = computing(root, profile, name, overrides)
    return {
        **computes,
        FIGURES: {
            "cells": cells.figures(cells.read(source)),
            f"{DRAWS}.py": _code(HERE / f"{DRAWS}.py"),
            style.name: _digest(style.read_bytes()),
        },
        "published": shown,
        "data": data_fingerprint(computes["settings"]),
        "environment": {
            "python": ".".join(map(str, sys.version_info[:2])),
            "requirements.lock": _digest(_read(root / "requirements.lock")),
        },
    }


def computing(
    root: Path, profile: str, name: str, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the parts of a key that say what is computed: code and settings."""
    settings, _ = profiles.settings(name, profile, overrides, root)
    source = profiles.check_notebook(root, name)
    return {
        "code": cells.computing(cells.read(source)),
        "settings": settings,
        "library": _package(root / "ddlib", source),
        "book": _package(HERE, source, without=DRAWS),
    }


def expected_seconds(root: Path, profile: str, name: str) -> float:
    """Return how long the last run took, here or, published, elsewhere; 0 if nobody knows."""
    published = root / "results" / name / "run.json"
    return seconds(places.products(root, profile, name).record) or seconds(published)


def seconds(record: Path) -> float:
    """Return how long the run took that left this record; 0 where it does not say."""
    try:
        found = float(files.read_json(record)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    return found if math.isfinite(found) else 0.0


def data_fingerprint(settings: Mapping[str, Any]) -> str | dict[str, str] | None:
    """Return the checksum of the data that the settings name, "absent", or None if they don't.

    Of several datasets, the checksums by the datasets' names. `ValueError` names a setting whose
    dataset there is not.
    """
    named = profiles.datasets(settings)
    if not named:
        return None
    from ddlib import data

    found = {}
    for setting, name in named.items():
        try:
            found[name] = data.fingerprint(name)
        except (ValueError, TypeError) as error:
            raise ValueError(f"parameter: {setting} = {name!r}; {error}") from error
    return found if len(found) > 1 else found.popitem()[1]


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


def stale(
    root: Path, profile: str, name: str, overrides: Mapping[str, Any] | None = None
) -> list[str]:
    """Say why `name` has to run; nothing when its finished run still stands."""
    _, variation = profiles.settings(name, profile, overrides, root)
    made = places.products(root, profile, name, variation)
    recorded = None
    if made.notebook.is_file() and made.record.is_file():
        try:
            recorded = files.read_json(made.record).get("key")
        except (OSError, ValueError, AttributeError):
            recorded = None
    return reasons(recorded, key(root, profile, name, overrides))


def changed_since(root: Path, name: str) -> list[str]:
    """Say what the published tables of `name` rest on that has changed since; nothing if none has.

    `ValueError` as `key`, and for a published record that cannot be read.
    """
    record = root / "results" / name / "run.json"
    if not record.is_file():
        return []
    try:
        was = files.read_json(record)["key"]
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"{record.name} of {name} has no key ({error})") from error
    return reasons(was, computing(root, "standard", name))


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


@functools.cache
def _code(path: Path) -> str:
    """Digest what Python code does: comments, docstrings and layout are not part of it."""
    text = profiles.text(path)
    try:
        tree = ast.parse(text)
    except SyntaxError:  # the notebook that imports it will say so
        return _digest(text.encode())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()
    return _digest(ast.dump(tree).encode())


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _package(folder: Path, source: Path, without: str = "") -> dict[str, str]:
    """Return digests of the modules in a package's folder that `source` imports, also through each
    other, but for one module and what it imports itself.
    """
    modules = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if without:  # and what names the package says of itself
        modules = {
            name: path for name, path in modules.items() if name not in (without, "__init__")
        }
    wanted: set[str] = {"__init__"} & set(modules)
    new = _imports(source, folder.name, modules)
    while new - wanted:
        wanted |= new
        new = {name for module in new for name in _imports(modules[module], folder.name, modules)}
    return {f"{name}.py": _code(modules[name]) for name in sorted(wanted)}


def _imports(path: Path, package: str, modules: Iterable[str]) -> set[str]:
    """Return which of a package's `modules` the file at `path` imports, anywhere in it."""
    try:
        tree = ast.parse(profiles.text(path))
    except SyntaxError:  # an IPython magic, say: then anything may be imported
        return set(modules)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = node.level > 0 and path.parent.name == package
            base = ".".join(filter(None, [package if inside else "", node.module or ""]))
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    parts = (name.split(".") for name in names)
    return {part[1] for part in parts if part[0] == package and len(part) > 1} & set(modules)
