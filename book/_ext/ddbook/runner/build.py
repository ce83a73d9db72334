"""Build the HTML from pages and finished runs: `python -m ddbook.runner.build --profile quick`.

Strictly: a warning fails the build. What a failed or killed build left is thrown away before the
next, since Sphinx would not warn a second time about a page that it has read.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ddbook.runner import files, keys, lock, places, profiles, status

TAIL = 15  # lines of the log that are shown when no warning explains a failed build


def record(root: Path) -> Path:
    """Return the file that says from what the HTML was built; there only if that succeeded."""
    return root / "_build" / "html.json"


def index(root: Path) -> Path:
    """Return the first page."""
    return root / "_build" / "html" / "index.html"


def done(root: Path) -> Path:
    """Return what Snakemake takes for the HTML (see `keys.mark`)."""
    return root / "runs" / ".stamps" / "html.done"


def stamp(root: Path, profile: str) -> Path:
    """Date the stamp of the HTML by whether pages, extension or profile have changed."""
    marked = keys.mark(done(root), record(root), index(root))
    return keys.stamp(root / "runs" / ".stamps" / "html", _stale(root, profile), marked)


def _stale(root: Path, profile: str) -> list[str]:
    try:
        recorded = files.read_json(record(root))
    except (OSError, ValueError):
        recorded = None
    return keys.reasons(recorded, keys.page_key(root, profile))


def build(root: Path, profile: str) -> int:
    """Build the HTML, once when two ask at once; return the exit status of Jupyter Book."""
    profiles.check_profile(profile)
    with lock.alone(root / "runs" / ".stamps" / "html.lock", "the HTML", sys.stderr) as waited:
        if waited and _is_newest(root, profile):
            print("the HTML: was built by another process", file=sys.stderr, flush=True)
            return 0
        return _build(root, profile)


def _is_newest(root: Path, profile: str) -> bool:
    """Say whether the HTML is of the pages as they are, and later than every run."""
    if _stale(root, profile):
        return False
    runs = [places.products(root, profile, name).notebook for name in places.sources(root)]
    dates = [path.stat().st_mtime_ns for path in runs if path.is_file()]
    return record(root).stat().st_mtime_ns > max(dates, default=0)


def _build(root: Path, profile: str) -> int:
    output = root / "_build"
    if record(root).is_file():
        record(root).unlink()
    else:
        for folder in ("html", ".doctrees"):
            shutil.rmtree(output / folder, ignore_errors=True)
    key = keys.page_key(root, profile)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "."]
    strictly = ["--toc", "book/_toc.yml", "-W", "-n", "--all", "--keep-going"]
    output.mkdir(exist_ok=True)
    with (output / "html.log").open("w+", encoding="utf-8", errors="replace") as log:
        code = subprocess.run(
            [*command, *strictly],
            cwd=root,
            env={**os.environ, "DDLIB_PROFILE": profile, "NO_COLOR": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        ).returncode
        log.seek(0)
        said = re.sub(r"\x1b\[[0-9;]*m", "", log.read()).splitlines()
    if code == 0:
        files.write_json(key, record(root))
    else:
        told = [line for line in said if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)]
        where = (output / "html.log").relative_to(root)
        print("The HTML was not built:", *(told or said[-TAIL:]), sep="\n  ", file=sys.stderr)
        print(f"  all that was said: {where}", file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Build from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ddbook.runner.build", description=__doc__)
    parser.add_argument("--profile", default="quick")
    options = parser.parse_args(arguments)
    return status.of(lambda: build(places.root(), options.profile))


if __name__ == "__main__":
    sys.exit(main())
