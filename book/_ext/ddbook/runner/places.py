"""Where things lie in this repository; the only module that knows.

notebooks/<name>.py                sources
runs/<profile>/<name>.ipynb        executed notebook: there only if the run succeeded
runs/<profile>/<name>/             its tables, claims.json, run.json
runs/variations/<profile>/…        the same for runs with other settings than the profile's
runs/.partial/<profile>/<name>/    a run under way (or killed): never read
runs/.store/<name>/                single training runs, each finished one for good (see `page`)
runs/.stamps/<profile>/<name>      why it has to run, for Snakemake (see `keys.stamp`), and
                                   <name>.done, the date of the finished run (see `keys.mark`)
results/<name>/                    published tables, claims.json, run.json
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


def root() -> Path:
    """Return the repository's root: where this file lies, unless the runner says another."""
    return Path(os.environ.get("DDBOOK_ROOT") or Path(__file__).resolve().parents[4])


def sources(root: Path) -> dict[str, Path]:
    """Return the notebooks' sources by name."""
    return {path.stem: path for path in sorted((root / "notebooks").glob("[a-z]*.py"))}


PROFILES = ("quick", "standard", "paper")  # by scale: a larger one may judge what a smaller one may


class Products(NamedTuple):
    """The paths of one run."""

    notebook: Path
    failed: Path
    folder: Path
    partial: Path
    stamp: Path

    @property
    def done(self) -> Path:
        """What Snakemake takes for the run, to delete when it makes it anew (see `keys.mark`)."""
        return self.stamp.with_name(f"{self.stamp.name}.done")

    @property
    def record(self) -> Path:
        """What was run, when, and with which inputs."""
        return self.folder / "run.json"

    @property
    def claims(self) -> Path:
        """What the run found about the claims."""
        return self.folder / "claims.json"


def products(root: Path, profile: str, name: str, variation: Mapping[str, Any] = {}) -> Products:
    """Return where a run writes; `variation` is what differs from the profile's settings.

    A variation has a place of its own: trying a number must not replace what the book shows, and
    hundreds of them may run at once.
    """
    base = root / "runs" / profile
    stem = name
    if variation:
        canonical = json.dumps(variation, sort_keys=True)
        base = root / "runs" / "variations" / profile
        stem = f"{name}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"
    return Products(
        notebook=base / f"{stem}.ipynb",
        failed=base / f"{stem}.failed.ipynb",
        folder=base / stem,
        partial=root / "runs" / ".partial" / base.relative_to(root / "runs") / stem,
        stamp=root / "runs" / ".stamps" / base.relative_to(root / "runs") / stem,
    )


def store(root: Path, name: str) -> Path:
    """Return where a notebook keeps its single finished training runs, for all profiles."""
    return root / "runs" / ".store" / name


def check_text(root: Path) -> None:
    """Raise `ValueError` where the path has bytes that are no letters in this locale.

    Notebooks, logs and tables are UTF-8, which has no way to write them.
    """
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the checkout's path must be text in this locale, got {os.fsencode(root)!r}; "
            "a UTF-8 locale or another folder would do"
        ) from error


def check_writable(root: Path, profile: str) -> None:
    """Raise the `OSError` that a run would meet at its end: no leave to write, no room, no folder.

    Only writing tells: a file system may be full or mounted to be read, whatever the permissions.
    """
    for name in (".stamps", ".partial", profile):
        folder = root / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"some")


def explain(error: OSError, at: Path | None = None) -> str:
    """Say in one line what the system refused, and where in the repository at `at`.

    >>> explain(NotADirectoryError(20, "Not a directory", "/book/runs/quick"), Path("/book"))
    'runs/quick: Not a directory'
    >>> explain(OSError("cannot do that"))
    'cannot do that'
    """
    at = root() if at is None else at
    if error.strerror is None:
        return " ".join(str(error).split()) or type(error).__name__
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    if path is not None and path.is_relative_to(at):
        path = path.relative_to(at)
    return error.strerror if path is None else f"{path}: {error.strerror}"


def print_anything() -> None:
    """Let this process print letters that its locale has not: as `\\xfc`, not as an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
