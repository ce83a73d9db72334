"""Lint, types and the tests of one notebook or one room, in under a minute.

    make check NB=dirac_gan
    make check ROOM=methods          # ddlib/methods.py
    make check ROOM=runner/keys      # book/_ext/ddbook/runner/keys.py

A room's tests are the files named after it or, where there are none, those that import it, and the
examples in its docstrings; a notebook's are the cases that name it. `make test` runs them all.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ddbook.runner import places, profiles, status
from ddbook.runner.choice import refusal
from ddbook.runner.job import describe

BOOK = Path("book/_ext")
EVERY_SOURCE = "sources(ROOT)"  # what the tests say that have a case for each notebook


class Chosen(NamedTuple):
    """The files to lint, and what pytest is given."""

    sources: list[Path]
    tests: list[str]


def of_notebook(root: Path, name: str) -> Chosen:
    """Return what to check of a notebook; `ValueError` names the closest when there is none."""
    source = profiles.check_notebook(root, name)
    files = [
        path
        for path in sorted((root / "tests").glob("test_*.py"))
        if name in (text := path.read_text(encoding="utf-8")) or EVERY_SOURCE in text
    ]
    return Chosen([source], [*map(str, files), "-k", name] if files else [])


def of_room(root: Path, room: str) -> Chosen:
    """Return what to check of a room; `ValueError` names the closest when there is none."""
    rooms = dict(_rooms(root))
    if room not in rooms:
        raise ValueError(refusal("room", sorted(rooms), room))
    path = rooms[room]
    inside = path.relative_to(root if path.is_relative_to(root / "ddlib") else root / BOOK)
    module = ".".join(inside.with_suffix("").parts)
    tests = sorted((root / "tests").glob("test_*.py"))
    own = [test for test in tests if test.stem == f"test_{path.stem}"]
    own = own or [test for test in tests if module in set(_imported(test))]
    return Chosen([path, *own], [str(path), *map(str, own)])


def _rooms(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module and folder of our packages, by its path below its package without `.py`."""
    for package in (root / "ddlib", root / BOOK / "ddbook"):
        for path in sorted(package.rglob("*")):
            module = path.suffix == ".py" and path.name != "__init__.py"
            if module or (path.is_dir() and (path / "__init__.py").is_file()):
                yield path.relative_to(package).with_suffix("").as_posix(), path


def _imported(test: Path) -> Iterator[str]:
    """The full names of what a test file imports, and of the packages around them."""
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ddbook.runner.check", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--notebook", help="notebooks/<name>.py")
    which.add_argument("--room", help="a module or folder of ddlib or of the book's package")
    options = parser.parse_args(arguments)
    return status.of(lambda: _check(places.root(), options.notebook, options.room))


def _check(root: Path, notebook: str | None, room: str | None) -> int:
    if notebook:
        chosen = of_notebook(root, notebook)
        describe(root, "quick", notebook)
    else:
        chosen = of_room(root, room or "")
    files = [str(path) for path in chosen.sources]
    steps = [["ruff", "check", *files], ["ruff", "format", "--check", *files], ["mypy"]]
    if chosen.tests:
        steps.append(["pytest", "--quiet", "--numprocesses", "2", *chosen.tests])
    failed = []
    for step in steps:
        print("---", " ".join(step[:2]), flush=True)
        code = subprocess.run([sys.executable, "-m", *step], cwd=root).returncode
        if code and not (step[0] == "pytest" and code == 5):  # 5: no case names the notebook
            failed.append(step[0])
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
